"""A handle as a node of a pack sees it: the base of the faces of MODEL, CLIP and VAE."""

from __future__ import annotations

from typing import Any

from graphflow import Handle

__all__ = ["Face"]


class Face(Handle):
    """Wraps a handle on its way into a foreign node. `settled` is what it stands for on the way out."""

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
        kind = type(self).__name__.removesuffix("Face").upper()
        raise AttributeError(
            f"a {kind} is a handle here: it names a model and has no {name!r} (see docs/packs.md)", name=name, obj=self
        )
