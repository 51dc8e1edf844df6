"""Changes by code of others in torch for the whole process: settings that change numbers, replaced functions.

A node pack or a script may do either, at import or in the middle of a run, and every node that computes afterwards
gives other numbers. So the changes are part of all recipes. As delivered, torch gives no text, and neither does a
process that has not imported it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import _lru_cache_wrapper, cache, lru_cache
from types import FunctionType, ModuleType
from typing import Any

from graphflow.spi import code_digest

__all__ = ["altered"]

_DELIVERED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "default dtype": (lambda torch: str(torch.get_default_dtype()), "torch.float32"),
    "default device": (lambda torch: str(torch.get_default_device()), "cpu"),
    "matmul precision": (lambda torch: torch.get_float32_matmul_precision(), "highest"),
    "deterministic": (lambda torch: torch.are_deterministic_algorithms_enabled(), False),
    "flush denormal": (lambda _: sys.float_info.min / 2 == 0.0, False),
    "autocast": (lambda torch: torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"), False),
    "cudnn": (lambda torch: torch.backends.cudnn.enabled, True),
    "cudnn benchmark": (lambda torch: torch.backends.cudnn.benchmark, False),
    "cudnn deterministic": (lambda torch: torch.backends.cudnn.deterministic, False),
    "cudnn tf32": (lambda torch: torch.backends.cudnn.allow_tf32, True),
    "matmul tf32": (lambda torch: torch.backends.cuda.matmul.allow_tf32, False),
    "fp16 reduction": (lambda torch: torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction, True),
    "bf16 reduction": (lambda torch: torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction, True),
    "fp16 accumulation": (lambda torch: torch.backends.cuda.matmul.allow_fp16_accumulation, False),
    "flash attention": (lambda torch: torch.backends.cuda.flash_sdp_enabled(), True),
    "efficient attention": (lambda torch: torch.backends.cuda.mem_efficient_sdp_enabled(), True),
    "plain attention": (lambda torch: torch.backends.cuda.math_sdp_enabled(), True),
    "cudnn attention": (lambda torch: torch.backends.cuda.cudnn_sdp_enabled(), True),
    "mkldnn": (lambda torch: torch.backends.mkldnn.enabled, True),
    "mkldnn deterministic": (lambda torch: torch.backends.mkldnn.deterministic, False),
}
"""Name -> (how to ask torch, its answer as delivered). Torch flushes denormals by a switch of the processor that
Python's own numbers obey, too."""
_ABSENT = object()


def altered() -> str:
    """`default dtype torch.float64; torch.nn.functional.interpolate is p.py 3f2a...`; empty where nothing is changed.

    Asking takes a tenth of a millisecond. A replaced function whose code cannot be told makes the text new in each
    process.
    """
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "nn"):  # another thread is importing it
        return ""
    found = [f"{name} {now}" for name, (ask, before) in _DELIVERED.items() if (now := _asked(ask, torch)) != before]
    return "; ".join([*found, *_last_look().replaced(torch)])


def _asked(ask: Callable[[Any], Any], torch: ModuleType) -> Any:
    try:
        return ask(torch)
    except AttributeError:  # a version of torch that has no such setting
        return _delivered(ask)
    except RuntimeError as error:  # torch refuses to read a setting that was made in another of its ways
        return str(error).partition("\n")[0]


def _delivered(ask: Callable[[Any], Any]) -> Any:
    return next(before for known, before in _DELIVERED.values() if known is ask)


class _Look:
    """The names of torch and what they meant when somebody last asked: the answer is another one only if these are."""

    def __init__(self) -> None:
        self._seen: list[tuple[Any, ...]] = []
        self._found: list[str] = []

    def replaced(self, torch: Any) -> list[str]:
        """`torch.nn.functional.interpolate is resize 3f2a...`, for each public name whose code lies elsewhere."""
        spaces = [torch, torch.nn.functional, torch.linalg, torch.fft, torch.Tensor]
        spaces += [item for item in vars(torch.nn).values() if isinstance(item, type)]
        seen = [tuple(vars(space).values()) for space in spaces]
        if seen != self._seen:
            found = [f"{place} is {_described(new)}" for place, new in _replaced(spaces, torch.__file__)]
            self._seen, self._found = seen, found
        return self._found


@cache
def _last_look() -> _Look:
    return _Look()


def _replaced(spaces: list[Any], file: str) -> Iterator[tuple[str, Any]]:
    """The public functions, methods and classes in these modules and classes whose code lies elsewhere."""
    home = os.path.dirname(file)
    for space in dict.fromkeys(spaces):
        for name, item in list(vars(space).items()):
            kind = type(item)
            if kind in _PLAIN or (name[0] == "_" and name not in _CALLS):
                continue
            if kind is _lru_cache_wrapper:
                item = item.__wrapped__
            if type(item) is FunctionType:
                is_foreign = not _is_delivered(item.__code__.co_filename, home)
            elif isinstance(item, type):
                is_foreign = _package(item) not in _OWN and _package(item) not in sys.stdlib_module_names
            else:
                is_foreign = callable(item) and _package(kind) not in _OWN
            if is_foreign:
                yield f"{space.__name__}.{name}", item


_CALLS = frozenset({"__call__", "_call_impl"})
_PLAIN = frozenset({type(len), str, bool, int, float, dict, list, tuple, ModuleType, type(None)})
_OWN = frozenset({"torch", "builtins", "typing", "typing_extensions", "functorch"})


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


@lru_cache(maxsize=10_000)
def _is_delivered(file: str, home: str) -> bool:
    """Whether code of this file belongs to torch (`home`), to Python, or to a library that recipes name the version
    of."""
    if file.startswith(home):
        return True
    parts = file.replace(os.sep, "/").split("/")
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            return parts[parts.index(folder) + 1].removesuffix(".py") in _LIBRARIES
    return file.startswith(os.path.dirname(os.__file__))


_LIBRARIES = frozenset({"typing_extensions", "transformers", "diffusers", "accelerate"})


def _described(new: Any) -> str:
    code = new if isinstance(new, (FunctionType, type)) else getattr(new, "func", type(new))
    return f"{getattr(code, '__qualname__', code)} {_digest(code)}"


@lru_cache(maxsize=1000)
def _digest(code: Any) -> str:
    return code_digest(code, time.time())
