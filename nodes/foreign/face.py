"""A handle as a node of a pack sees it: the base of the faces of MODEL, CLIP and VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from graphflow import Handle

__all__ = ["Face"]


class Face(Handle):
    """Wraps a handle on its way into a foreign node. `settled` is what it stands for on the way out."""

    type_name: ClassVar[str] = ""
    """Of the wire."""
    absent: ClassVar[Mapping[str, str]] = {}
    """What packs ask for and handles cannot have -> why."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def settled(self) -> Any:
        """The handle, with what was changed through this face."""
        return self._handle

    def identity(self) -> Any:
        return self.settled().identity()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kind = self.type_name or type(self).__name__.removesuffix("Face").upper()
        article = "an" if kind[0] in "AEIOU" else "a"
        why = f": {self.absent[name]}" if name in self.absent else ""
        message = f"{article} {kind} is a handle here: it names a model and has no {name!r}{why} (see docs/packs.md)"
        raise AttributeError(message, name=name, obj=self)
