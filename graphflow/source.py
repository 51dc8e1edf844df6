"""A digest of the code behind a node that states no version, so that an edit of the code is a miss.

It covers the text of the module that defines the function, and of all modules beside it (of the same package or folder)
that it imports, at the top or inside functions, directly or through others; the values of the function's closure and
defaults; and plain values of module variables that the function, or a function of the same module that it calls, names.
It does not cover installed libraries (a node states them by `environment=`), files that code reads (`outside=`), and
state that changes while the process lives. Where the text cannot be read, the code object stands for it; and where that
does not say enough, for a class without text or a closure over an open file, the digest is new in each process: a miss.
"""

from __future__ import annotations

import ast
import inspect
import secrets
import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .canonical import canonical

__all__ = ["code_digest"]


def code_digest(function: Callable[..., Any], loaded: float) -> str:
    """24 hexadecimal digits. `loaded` is when the module was imported (Unix time): of a file that was changed since
    then nobody knows which text is running."""
    hasher = blake2b(digest_size=12)
    plain = inspect.unwrap(function)
    for item in dict.fromkeys((function, plain)):
        hasher.update(_of_object(item))
    module = sys.modules.get(getattr(plain, "__module__", None) or "")
    path = _file_of(module)
    if path is not None:
        try:
            for part in _with_imported(path, _root(path, module)):
                hasher.update(_text_digest(part, loaded))
        except OSError:
            hasher.update(secrets.token_bytes(16))
    return hasher.hexdigest()


def _of_object(item: Any) -> bytes:
    """What the text of the module does not show: closures, defaults, variables. Without a text, the code as well."""
    seen: set[int] = set()
    parts: list[bytes] = []
    stack = [item]
    while stack:
        found = stack.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, FunctionType):
            parts.append(found.__qualname__.encode())
            if _file_of(sys.modules.get(found.__module__)) is None:
                parts.extend(_code(found.__code__))
            stack.extend(cell.cell_contents for cell in found.__closure__ or () if _is_filled(cell))
            stack.extend(found.__defaults__ or ())
            stack.extend((found.__kwdefaults__ or {}).values())
            home = found.__globals__
            stack.extend(
                home[name] for name in sorted(_names(found.__code__)) if _matters(home.get(name), found.__module__)
            )
        elif isinstance(found, ModuleType) or found is inspect.Parameter.empty:
            continue
        elif isinstance(found, type):
            parts.append(f"{found.__module__}.{found.__qualname__}".encode())
            if _file_of(sys.modules.get(found.__module__)) is None:
                parts.append(secrets.token_bytes(16))
        else:
            try:
                parts.append(canonical(found))
            except (TypeError, RecursionError):
                parts.append(secrets.token_bytes(16))
    return b"\0".join(parts)


def _matters(value: Any, module: str) -> bool:
    """Whether a module variable is looked at: a plain value, or a function or class of the same module. All else is in
    the text of a module, or belongs to a library."""
    if isinstance(value, (FunctionType, type)):
        return value.__module__ == module
    return type(value) in (bool, int, float, str, bytes, list, tuple, dict)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code + repr((code.co_names, code.co_varnames)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(constant).encode()


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) and file.endswith(".py") and Path(file).is_file() else None


def _root(path: Path, module: ModuleType | None) -> Path:
    """The folder of the outermost package that the module lies in, or its own folder."""
    depth = (getattr(module, "__package__", None) or "").count(".")
    return path.parents[min(depth, len(path.parents) - 1)]


def _with_imported(path: Path, root: Path) -> list[Path]:
    """The file, and all files below the root that it imports, sorted."""
    found = {path}
    stack = [path]
    while stack:
        state = stack[-1].stat()
        for imported in _imports(stack.pop(), root, (state.st_mtime_ns, state.st_size)):
            if imported not in found:
                found.add(imported)
                stack.append(imported)
    return sorted(found)


def _text_digest(path: Path, loaded: float) -> bytes:
    if path.stat().st_mtime > loaded:
        return secrets.token_bytes(16)
    return blake2b(path.read_bytes(), digest_size=16).digest()


@cache
def _imports(path: Path, root: Path, state: tuple[int, int]) -> tuple[Path, ...]:
    """Files below the root that a file names in its import statements; `state` tells one text of it from another."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return ()
    names: list[tuple[Path, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(root, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else root
            base = node.module or ""
            names += [(start, base)] + [(start, f"{base}.{alias.name}".strip(".")) for alias in node.names]
    found: list[Path] = []
    for start, name in names:
        found += _files(start, name, root)
    return tuple(found)


def _files(start: Path, dotted: str, root: Path) -> Iterator[Path]:
    """The files of `a.b.c` below a folder: `a/__init__.py`, `a/b/__init__.py`, `a/b/c.py`. The root's own name may be
    the first part."""
    for parts in (dotted.split("."), dotted.split(".")[1:] if dotted.partition(".")[0] == root.name else []):
        folder = start
        for part in parts:
            for path in (folder / part / "__init__.py", folder / f"{part}.py"):
                if part and path.is_file() and path.resolve().is_relative_to(root):
                    yield path.resolve()
            folder /= part
