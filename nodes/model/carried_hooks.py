"""Hooks on their way through a text encoder: the patch that puts them on what it encodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .hook import Hook
from .patch import Kind, Patch

__all__ = ["CarriedHooks"]


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
