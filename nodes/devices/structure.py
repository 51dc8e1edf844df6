"""What decides the code of a network, besides the shapes that it is asked about: its layers, their settings, and which
of its weights are one. Two networks that differ in the values of their weights alone have equal structures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

__all__ = ["Unstated", "structure", "tensors_of"]

INLINED = 8
"""Weights of so few values may stand in the code itself, so their values count."""
DEPTH = 6
SMALL = 1 << 20
NOTES = frozenset({"_name_or_path", "_use_default_values"})
"""What diffusers notes in a config about itself: a folder, and a list in an order that differs in each process."""
OF_MODULE = frozenset(torch.nn.Module().__dict__)
PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size, torch.layout)


class Unstated(Exception):
    """A network has a setting whose value cannot be stated."""


def structure(network: torch.nn.Module) -> bytes:
    """A digest. Raises Unstated."""
    return _digest(network, {})


def _digest(network: torch.nn.Module, known: Mapping[int, str]) -> bytes:
    """`known`: the names of modules that are described already; settings may lead back to them."""
    modules = list(network.named_modules(remove_duplicate=False))
    known = {**{id(module): f"{len(known)} {name}" for name, module in reversed(modules)}, **known}
    lines = [f"{name} {fact}" for name, module in modules for fact in _of(module, known)]
    firsts: dict[Any, str] = {}
    for name, tensor in tensors_of(network).items():
        one = (tensor.data_ptr(), tensor.shape, tensor.stride())
        lines.append(f"{name} {tensor.dtype} {tensor.device} {one[1:]} {firsts.setdefault(one, name)}")
        if tensor.numel() <= INLINED:
            lines.append(str(tensor.tolist()))
    return blake2b("\n".join(lines).encode(), digest_size=16).digest()


def tensors_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by all their names."""
    weights = dict(network.named_parameters(remove_duplicate=False))
    return {**weights, **dict(network.named_buffers(remove_duplicate=False))}


def _of(module: torch.nn.Module, known: Mapping[int, str]) -> Iterator[str]:
    yield _name(type(module))
    for name, value in sorted(module.__dict__.items()):
        is_own = name not in OF_MODULE and not name.startswith("graphflow ")  # this package keeps compiled forms so
        if is_own or name == "training" or (name.endswith("_hooks") and value):
            yield f"{name} {_stated(value, DEPTH, known)}"


def _stated(value: Any, depth: int, known: Mapping[int, str]) -> str:
    """Equal texts for equal settings."""
    if isinstance(value, PLAIN):
        return repr(value)
    if depth == 0:
        raise Unstated(f"a {type(value).__qualname__} lies too deep")
    if isinstance(value, dict):
        stated = ((key, one) for key, one in value.items() if key not in NOTES)
        return str([(_stated(key, depth - 1, known), _stated(one, depth - 1, known)) for key, one in stated])
    if isinstance(value, list | tuple):
        return str([_stated(one, depth - 1, known) for one in value])
    if isinstance(value, set | frozenset):
        return str(sorted(_stated(one, depth - 1, known) for one in value))
    if isinstance(value, torch.nn.Module):
        return (
            f"module {known[id(value)]}"
            if id(value) in known
            else f"{_name(type(value))} {_digest(value, known).hex()}"
        )
    if isinstance(value, Tensor):
        if value.numel() > SMALL:
            raise Unstated("a large tensor that is not a weight")
        flat = value.detach().cpu().contiguous().reshape(-1)
        bytes = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        return f"{value.dtype} {tuple(value.shape)} {blake2b(bytes, digest_size=16).hexdigest()}"
    if isinstance(value, MethodType):
        return f"{_name(value.__func__)} of {_stated(value.__self__, depth - 1, known)}"
    if isinstance(value, FunctionType):
        within = [_stated(cell.cell_contents, depth - 1, known) for cell in value.__closure__ or ()]
        return f"{_name(value)} {within} {_stated(value.__defaults__, depth - 1, known)}"
    if isinstance(value, type | BuiltinFunctionType):
        return _name(value)
    if hasattr(value, "__dict__"):
        return f"{_name(type(value))} {_stated(dict(sorted(vars(value).items())), depth - 1, known)}"
    if hasattr(type(value), "__slots__") and type(value).__module__ not in ("builtins", "_thread"):
        slots = {name: getattr(value, name) for name in type(value).__slots__ if hasattr(value, name)}
        return f"{_name(type(value))} {_stated(slots, depth - 1, known)}"
    raise Unstated(f"a {type(value).__qualname__}")


def _name(named: Any) -> str:
    """A class or function, with the version of the code that it comes from."""
    module = str(named.__module__ or "builtins")
    return f"{module}.{named.__qualname__} {_version(module)}"


@cache
def _version(module: str) -> str:
    """Of an installed package that others release; of code in a folder its digest, since it may change at any time."""
    package = module.partition(".")[0]
    if package in sys.builtin_module_names:
        return ""  # as all of Python: its version counts elsewhere
    name = getattr(import_module(package), "__file__", None) or getattr(import_module(module), "__file__", None)
    if name is None:
        raise Unstated(f"code without a file, of {module}")
    path = Path(name)
    if "site-packages" in path.parts:
        try:
            return version(package)
        except PackageNotFoundError:
            pass
    elif package in sys.stdlib_module_names:
        return ""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    found = blake2b(digest_size=16)
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()
