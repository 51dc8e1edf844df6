r"""Differential diffusion (arXiv 2306.00950): a noise mask with shades, of which each shade begins at its own noise
level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..samplers.guidance import MaskPatch

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.handles import Model

__all__ = ["DifferentialDiffusion"]


@dataclass(frozen=True)
class DifferentialDiffusion(MaskPatch):
    r"""At the time t of a run from time a to b, all is drawn anew where the mask m is large enough.

    .. math:: m_t = 1 \text{ where } m \ge \frac{t - b}{a - b}, \text{ else } 0; \qquad s \, m_t + (1 - s) \, m
    """

    strength: float

    def identity(self) -> Any:
        return ["differential_diffusion", self.strength]

    def mask(self, mask: Tensor, model: Model, level: float, first: float, last: float) -> Tensor:
        prediction = model.prediction
        now, begin, end = (
            float(prediction.time(torch.tensor(one))) for one in (level, first, max(last, prediction.sigma_min))
        )
        threshold = (now - end) / (begin - end) if begin != end else 0.0
        whole = (mask >= threshold).to(mask.dtype)
        return self.strength * whole + (1.0 - self.strength) * mask
