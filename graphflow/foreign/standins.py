"""The helper modules that foreign packs import (`folder_paths`, `comfy.utils` ...), under their names, while needed.

Who knows torch provides them: the entry point group `graphflow.foreign` names modules with a FOLDER of such modules,
ABSENT, the names of modules that packs import and that are not there (see `absent.py`), `known(module, name)`, what
stands for a name in one of these, and
`around()`, a context in which node functions are called; `outward(value)` and `inward(value)`, a value on its way into
a foreign node and out of it; `environment(settings)`, what of the device changes results; and `altered()`, what code of
others has changed in the libraries that compute, for the whole process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ..settings import Settings
from .absent import absent_spec

__all__ = [
    "altered",
    "around",
    "disable",
    "enable",
    "environment",
    "inward",
    "is_enabled",
    "node_module",
    "outward",
    "stands_in",
]


class _Finder(MetaPathFinder):
    """Finds the top-level names of the stand-in folders; what lies below them Python finds by itself, or it is
    absent."""

    def __init__(self, folders: Sequence[Path], absent: frozenset[str] = frozenset()) -> None:
        self._folders = [str(folder) for folder in folders]
        self._names = {
            path.stem for folder in folders for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()
        }
        self._absent = absent

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and name in self._names:
            return PathFinder.find_spec(name, self._folders, target)
        if path is None:
            is_absent = name in self._absent and PathFinder.find_spec(name) is None
            return absent_spec(name, self._folders[0], _known) if is_absent else None
        if not self._is_absent(name) or not any(str(one).startswith(tuple(self._folders)) for one in path):
            return None
        return PathFinder.find_spec(name, path, target) or absent_spec(name, self._folders[0], _known)

    def _is_absent(self, name: str) -> bool:
        """Whether it, or a package around it, is one that packs import and that is not there."""
        parts = name.split(".")
        return any(".".join(parts[:count]) in self._absent for count in range(1, len(parts) + 1))

    def get(self, name: str) -> ModuleType | None:
        """The stand-in of this name; None where there is none, or where something else was imported under the name."""
        module = import_module(name) if name in self._names else None
        return module if module is not None and self._is_ours(module) else None

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def forget(self) -> None:
        """Take what was imported out again."""
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in self._names | self._absent and self._is_ours(module):
                del sys.modules[name]

    def _is_ours(self, module: ModuleType) -> bool:
        found = getattr(module, "__file__", None) or ""
        return any(found.startswith(folder) for folder in self._folders)


@cache
def _providers() -> tuple[ModuleType, ...]:
    return tuple(point.load() for point in entry_points(group="graphflow.foreign"))


def _known(module: str, name: str) -> Any:
    """What stands for a name in a module that is not there."""
    return next((found for one in _providers() if (found := one.known(module, name)) is not None), None)


@cache
def _finder() -> _Finder:
    absent = frozenset().union(*(provider.ABSENT for provider in _providers()))
    return _Finder([Path(provider.FOLDER) for provider in _providers()], absent)


def enable() -> None:
    """From now on, `import folder_paths` and the like find ours, before anything else of that name."""
    if _finder() not in sys.meta_path:
        sys.meta_path.insert(0, _finder())


def disable() -> None:
    """As if they had never been there."""
    if _finder() in sys.meta_path:
        sys.meta_path.remove(_finder())
    _finder().forget()


def is_enabled() -> bool:
    return _finder() in sys.meta_path


def stands_in(name: str) -> bool:
    """Whether a top-level module of this name is ours."""
    return name in _finder()


def node_module() -> Any:
    """The module `nodes`, where the classes of all packs meet, while enabled; None where nobody provides it."""
    return _finder().get("nodes")


def altered() -> str:
    """What code of others has changed in the libraries that compute, for the whole process; empty where nothing is."""
    return "; ".join(filter(None, (str(provider.altered()) for provider in _providers())))


def around() -> AbstractContextManager[object]:
    """The context in which node functions are called (without gradients, for example)."""
    stack = ExitStack()
    for provider in _providers():
        enter: Callable[[], AbstractContextManager[object]] = provider.around
        stack.enter_context(enter())
    return stack


def environment(settings: Settings) -> str:
    """What of the device changes the results of foreign nodes."""
    return "; ".join(str(provider.environment(settings)) for provider in _providers())


def outward(value: Any) -> Any:
    """A value as foreign nodes see it."""
    for provider in _providers():
        value = provider.outward(value)
    return value


def inward(value: Any) -> Any:
    """A value that a foreign node gave back, as ours see it."""
    for provider in _providers():
        value = provider.inward(value)
    return value
