"""Modules that packs import at their top and that are not there: all names can be imported, and none can be used.

So a pack loads, and of its nodes only those fail that use such a thing, with a message that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["Absent", "absent_spec"]


class Absent(type):
    """A class that is not there: it can be named, derived from and compared with; a call of it raises."""

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(_message(cls))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name, (), {"__module__": f"{cls.__module__}.{cls.__name__}", "absent": True})

    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(cls, instance) if cls.__dict__.get("absent") is None else False


def absent_spec(name: str, folder: str, known: Callable[[str, str], Any]) -> ModuleSpec:
    """The spec of a module that is not there, as if it lay in a folder; `known(module, name)` may give some of it."""
    spec = ModuleSpec(name, _AbsentLoader(folder, known), is_package=True)
    spec.submodule_search_locations = [f"{folder}/{name.replace('.', '/')}"]
    return spec


class _AbsentModule(ModuleType):
    known: Callable[[str, str], Any]
    """(module, name) -> what stands for it; None: nothing does."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)
        made = vars(self)["known"](self.__name__, name)
        if made is None:
            made = Absent(name, (), {"__module__": self.__name__, "absent": True})
        setattr(self, name, made)
        return made


class _AbsentLoader(Loader):
    def __init__(self, folder: str, known: Callable[[str, str], Any]) -> None:
        self._folder, self._known = folder, known

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _AbsentModule(spec.name)
        vars(module)["known"] = self._known
        module.__file__ = f"{self._folder}/{spec.name.replace('.', '/')}/__init__.py"
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


def _message(kind: type) -> str:
    base = next((one for one in kind.__mro__ if one.__dict__.get("absent")), kind)
    return f"the pack uses {base.__module__}.{base.__name__}, an inner part of ComfyUI that is not here"
