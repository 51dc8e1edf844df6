"""Hooks: what is changed about a model while it answers about the conditionings that carry them, by noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from graphflow import Handle

from .patch import Kind, Patch

__all__ = ["CarriedHooks", "Hook", "Keyframe"]


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


@dataclass(frozen=True)
class CarriedHooks(Patch):
    """On a Clip: prompts are encoded under these hooks."""

    kind: ClassVar[Kind] = "guidance"
    hooks: tuple[Hook, ...]
    on_conditionings: bool = True
    """The encoded prompts carry the hooks to the model that samples it."""
    scheduled: bool = False
    """A prompt is encoded once for each range of the keyframes, with its factors, and acts in that range."""

    def identity(self) -> Any:
        return ["carried", [hook.identity() for hook in self.hooks], self.on_conditionings, self.scheduled]

    def ranges(self) -> Sequence[tuple[tuple[float, float], tuple[float, ...]]]:
        """(begin and end in shares of the sampling, the factor of each hook in it)."""
        if not self.scheduled:
            return [((0.0, 1.0), (1.0,) * len(self.hooks))]
        begins = sorted({0.0, *(frame.start for hook in self.hooks for frame in hook.keyframes)})
        found = []
        for begin, end in zip(begins, [*begins[1:], 1.0], strict=True):
            reached = [[one.factor for one in hook.keyframes if one.start <= begin] for hook in self.hooks]
            found.append(((begin, end), tuple(factors[-1] if factors else 1.0 for factors in reached)))
        return found
