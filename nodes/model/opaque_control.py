"""Code of others that adds to what is inside a network, as a control network does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphflow import Handle

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OpaqueControl", "Residuals"]

Residuals = list[dict[str, "Tensor"]]
"""For each latent: name of a place inside the network -> what is added there, times its strength."""


@dataclass(frozen=True, eq=False)
class OpaqueControl(Handle):
    """On an entry, beside its controls. (Entries carry it, and handles stand above entries: so their types cannot be
    named here.)"""

    window: tuple[float, float] = (0.0, 1.0)
    """From and to, in shares of the sampling."""
    both_sides: bool = False
    """See `Control.both_sides`."""

    def misfit(self, model: Any) -> str | None:
        """Why it cannot act on a model (a Model); None where it can."""
        raise NotImplementedError

    def begin(self, model: Any) -> None:
        """A run begins."""
        raise NotImplementedError

    def residuals(self, question: Any) -> Residuals:
        """What it adds about the latents of a `samplers.residuals.ControlQuestion`."""
        raise NotImplementedError
