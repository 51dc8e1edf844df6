"""Code of others that adds to what is inside a network, as a control network does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from graphflow import Handle

if TYPE_CHECKING:
    from torch import Tensor

    from .entry import Control, Entry
    from .handles import Model

__all__ = ["ControlQuestion", "OpaqueControl", "Residuals"]

Residuals = list[dict[str, "Tensor"]]
"""For each latent: name of a place inside the network -> what is added there, times its strength."""


class AskControls(Protocol):
    def __call__(self, controls: Sequence[Control], x: Tensor, level: float) -> Residuals: ...


@dataclass(frozen=True, eq=False)
class ControlQuestion:
    """One question about the latents of one conditioning."""

    model: Model
    x: Tensor
    """float32 [B, C, h, w] or [B, C, frames, h, w], model unit, not scaled, cut to the conditioning's region."""
    level: float
    levels: tuple[float, ...]
    """All noise levels of the run, falling."""
    entries: Sequence[Entry]
    """One for each latent."""
    side: int
    """0 is the positive, 1 the negative."""
    ask: AskControls
    """The answers of control networks of ours at latents of this shape and at a level."""


@dataclass(frozen=True, eq=False)
class OpaqueControl(Handle):
    """On an entry, beside its controls."""

    window: tuple[float, float] = (0.0, 1.0)
    """From and to, in shares of the sampling."""
    both_sides: bool = False
    """See `Control.both_sides`."""

    def misfit(self, model: Model) -> str | None:
        """Why it cannot act on a model; None where it can."""
        raise NotImplementedError

    def begin(self, model: Model) -> None:
        """A run begins."""
        raise NotImplementedError

    def residuals(self, question: ControlQuestion) -> Residuals:
        raise NotImplementedError
