"""Hooks: what is changed about a model while it answers about the conditionings that carry them, by noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphflow import Handle

__all__ = ["Hook", "Keyframe"]


@dataclass(frozen=True, slots=True)
class Keyframe(Handle):
    """From `start` on, a share of the sampling, the strength of a hook is times `factor`."""

    factor: float
    start: float = 0.0
    guaranteed: int = 1
    """Steps that it counts for at least, once it counts."""

    def identity(self) -> Any:
        return [self.factor, self.start, self.guaranteed]


class Hook(Handle):
    """An immutable value with `keyframes`, which are sorted by their begin."""

    __slots__ = ()
    keyframes: tuple[Keyframe, ...]

    def on(self, handle: Any, factor: float) -> Any:
        """A Model or a Clip under the hook at a factor of its strength. (Entries carry hooks, and handles stand above
        entries: so their types cannot be named here.)"""
        raise NotImplementedError

    def check(self, model: Any, input: str) -> None:
        """Raises a Problem where it does not fit the model (a Model)."""
