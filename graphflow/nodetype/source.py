"""A digest of the code behind a node, so that an edit of the code is a miss.

It covers the code that runs, as far as it is in the node's own package or not installed: the function, and what it
names, whichever module that is in: functions, classes with their methods and attributes, and the values of module
variables, closures and defaults. And it covers the text of the modules in which these lie and of all that they import,
at the top or inside functions. Text and code both count, because Python may run an earlier text of the file.

It does not cover other installed libraries (a node states them by `environment=`), files that code reads when it is
called (`outside=`), and variables of modules that are imported inside functions. What has no stable digest, such as an
open file, makes the digest new in each process: a miss.
"""

from __future__ import annotations

import builtins
import copyreg
import logging
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import _lru_cache_wrapper, cached_property
from hashlib import blake2b
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from ..values.canonical import canonical
from .placeless import is_placeless
from .source_files import file_of, is_installed, is_own, root_of, texts_digest, with_imported

__all__ = ["code_digest", "has_file", "place_of", "reads_nothing", "text_digest"]

_WRAPPERS = (staticmethod, classmethod, MethodType, property, cached_property)
_MOST_PARTS = 100_000
_STATELESS = (
    logging.Logger,
    type(threading.Lock()),
    type(threading.RLock()),
    threading.local,
    ContextVar,
    weakref.ref,
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
    weakref.WeakSet,
    GetSetDescriptorType,
    MemberDescriptorType,
)
"""Modules that a program needs to work; their state does not change a result."""


def code_digest(function: Callable[..., Any], loaded: float) -> str:
    """24 hexadecimal digits. `loaded` is when the module was imported (Unix time): of a file that was changed since
    then nobody knows which text is running."""
    return _digest(function, loaded, values=True)


def text_digest(function: Callable[..., Any], loaded: float) -> str:
    """The same without the values of variables, closures and defaults: for a node that states what else counts."""
    return _digest(function, loaded, values=False)


def has_file(function: Callable[..., Any]) -> bool:
    """Whether the code lies in a file; what was typed in, in a notebook, can be typed again, and then is another.
    Notebooks name files that are not there."""
    code = getattr(function, "__code__", None)
    return code is None or os.path.isfile(code.co_filename)


def place_of(function: Callable[..., Any]) -> str:
    """12 hexadecimal digits for the file in which a function was declared: what it reads beside that file is another
    thing in another place. The path itself would show in files that carry the version."""
    file = getattr(sys.modules.get(function.__module__), "__file__", None) or ""
    return blake2b(os.fsencode(os.path.realpath(file)), digest_size=6).hexdigest()


def reads_nothing(function: Callable[..., Any]) -> bool:
    """Whether its code, and all that it imports and is not installed, can neither open a file nor learn where it lies;
    see `placeless`. Such code is the same in every place."""
    reader = _Reader(False, (getattr(function, "__module__", None) or "").partition(".")[0])
    try:
        reader.read(function)
        return is_placeless(with_imported(reader.files.items()))
    except Exception:  # as in `_digest`
        return False


def _digest(function: Callable[..., Any], loaded: float, values: bool) -> str:
    reader = _Reader(values, (getattr(function, "__module__", None) or "").partition(".")[0])
    hasher = blake2b(digest_size=12)
    try:
        reader.read(function)
        hasher.update(b"\0".join(reader.parts))
        hasher.update(texts_digest(with_imported(reader.files.items()), loaded))
    except Exception:  # a file that cannot be read, endless nesting, whatever an object of others raises when looked at
        hasher.update(secrets.token_bytes(16))
    return hasher.hexdigest()


class _Reader:
    """Walks through code and values, each once. `parts` describe them, `files` hold them, with their roots."""

    def __init__(self, values: bool, package: str) -> None:
        """`package` is the one of the node; its code counts even where it is installed."""
        self.parts: list[bytes] = []
        self.files: dict[Path, Path] = {}
        self._values, self._package = values, package
        self._seen: dict[int, tuple[int, object]] = {}
        """Identity -> (number, the thing itself, for as long as it lives nothing else has its identity)."""

    def read(self, item: Any) -> None:
        if type(item) in (bool, int, float, str, bytes) or item is None:
            if self._values:
                self.parts.append(canonical(item))
            return
        known = self._seen.get(id(item))
        if known is not None:
            self.parts.append(b"#%d" % known[0])
            return
        self._seen[id(item)] = len(self._seen), item
        if len(self._seen) > _MOST_PARTS:
            self._cannot_tell()
        elif isinstance(item, FunctionType):
            self._function(item)
        elif isinstance(item, type):
            self._class(item)
        elif isinstance(item, ModuleType):
            self._name(item.__name__)
        elif isinstance(item, BuiltinFunctionType):
            self._name(item.__module__, item.__qualname__)
            self._text_of(sys.modules.get(item.__module__ or ""))
        elif isinstance(item, _WRAPPERS):
            self._all(getattr(item, name, None) for name in ("__func__", "__self__", "fget", "fset", "fdel", "func"))
        elif isinstance(item, _lru_cache_wrapper):
            self.read(item.__wrapped__)
        elif self._values and not isinstance(item, _STATELESS):
            self._value(item)

    def _all(self, items: Iterable[Any]) -> None:
        for item in items:
            self.read(item)

    def _name(self, *words: str | None) -> None:
        self.parts.append(".".join(word or "" for word in words).encode())

    def _cannot_tell(self) -> None:
        self.parts.append(secrets.token_bytes(16))

    def _text_of(self, module: ModuleType | None) -> None:
        path = file_of(module, self._package)
        if path is not None:
            self.files[path] = root_of(path, module)

    def _function(self, function: FunctionType) -> None:
        code, home = function.__code__, function.__globals__
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        is_own_code = home.get("__name__", "").partition(".")[0] == self._package or not is_installed(code.co_filename)
        if not is_own_code:  # a decorator of a library: what it wraps is its user's
            self._name(function.__module__, function.__qualname__)
            self._all(item for item in cells if isinstance(item, FunctionType))
            tables = [item for item in cells if type(item) is dict]  # that of a single dispatch
            self._all(item for table in tables for item in table.values() if isinstance(item, FunctionType))
            return
        self._name(function.__qualname__)
        self._text_of(sys.modules.get(home.get("__name__", "")))
        self.parts.extend(_code(code))
        self._all(cells)
        self._all(function.__defaults__ or ())
        self.read(function.__kwdefaults__)
        attributes = {name: value for name, value in vars(function).items() if name != "node_type"}
        if attributes:
            self.read(attributes)
        names = _names(code)
        if names & _ANY_VARIABLE:
            names |= _own_names(home)
        self._variables(home, names, set())

    def _variables(self, home: Mapping[str, Any], names: set[str], entered: set[int]) -> None:
        """The variables of these names; of each module among them, once, those of these names as well."""
        for name in sorted(names & home.keys()):
            value = home[name]
            self._name(name)
            self.read(value)
            if isinstance(value, ModuleType) and is_own(value, self._package) and id(value) not in entered:
                entered.add(id(value))
                self._text_of(value)
                by_name = names & _ANY_ATTRIBUTE
                self._variables(vars(value), names | _own_names(vars(value)) if by_name else names, entered)

    def _class(self, kind: type) -> None:
        self._name(kind.__module__, kind.__qualname__)
        module = sys.modules.get(kind.__module__)
        if not is_own(module, self._package) and vars(builtins).get(kind.__name__, kind) is kind:
            return
        self._text_of(module)
        if type(kind) is not type:
            self.read(type(kind))
        self._all(kind.__mro__[1:])
        for name, value in sorted(vars(kind).items()):
            if callable(value) or isinstance(value, _WRAPPERS) or not name.startswith(("__", "_abc_")):
                self._name(name)
                self.read(value)

    def _value(self, item: Any) -> None:
        if isinstance(item, (set, frozenset)):
            self.parts.extend(sorted(self._apart(part) for part in item))
            return
        try:
            self.parts.append(canonical(item))
        except TypeError:
            self._pieces(item)

    def _pieces(self, item: Any) -> None:
        """A container by what is in it, any other object by what `copy` would make it anew from."""
        if type(item) in (list, tuple):
            self._name(type(item).__name__, str(len(item)))
            self._all(item)
        elif type(item) is dict:
            self._name("dict", str(len(item)))
            self._all(part for pair in item.items() for part in pair)
        else:
            reduce = copyreg.dispatch_table.get(type(item))
            try:
                made = reduce(item) if reduce is not None else item.__reduce_ex__(4)
                pieces = (
                    made
                    if isinstance(made, str)
                    else [list(part) if isinstance(part, Iterator) else part for part in made]
                )
            except Exception:  # whatever the object's own methods raise
                self._cannot_tell()
            else:
                self.read(type(item))
                self.read(pieces)

    def _apart(self, item: Any) -> bytes:
        """For what has no order: its digest, whatever was read before."""
        reader = _Reader(self._values, self._package)
        reader.read(item)
        self.files.update(reader.files)
        return blake2b(b"\0".join(reader.parts), digest_size=16).digest()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


_ANY_VARIABLE = frozenset({"globals", "eval", "exec"})
_ANY_ATTRIBUTE = frozenset({"getattr", "vars"})
"""Code that uses one of these may read a variable whose name is not in it: then all of them count."""


def _own_names(variables: Mapping[str, Any]) -> set[str]:
    return {name for name in variables if not name.startswith("__")}


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code + code.co_exceptiontable + repr((code.co_names, code.co_varnames)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        elif isinstance(constant, frozenset):  # `x in {"a", "b"}`: its order is another in each process
            yield b"\0".join(sorted(repr(item).encode() for item in constant))
        else:
            yield repr(constant).encode()
