r"""Guidance that grows over the frames of a video: weak where the image that it begins with is known, strong behind it.

.. math:: \hat x_0^f = x_0^- + w_f \, (x_0^+ - x_0^-)

with a weight :math:`w_f` for each frame f of n (Stable Video Diffusion, arXiv 2311.15127, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from ..samplers.guidance import NEGATIVE, POSITIVE, GuidancePatch, Step

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameGuidance"]


@dataclass(frozen=True)
class FrameGuidance(GuidancePatch):
    r"""The frames are those of a batch of latents [frames, C, h, w], or of a latent with an axis of frames.

    | shape | :math:`w_f`, with :math:`t = f / (n - 1)` |
    |---|---|
    | `linear` | :math:`m + t \, (w - m)` |
    | `triangle` | :math:`m + 2 \, \lvert t - \lfloor t + \tfrac12 \rfloor \rvert \, (w - m)`: w in the middle |
    """

    least: float
    """m, the weight of the first frame."""
    shape: Literal["linear", "triangle"] = "linear"
    acts: ClassVar[Literal["before", "instead", "after"]] = "instead"

    def identity(self) -> Any:
        return ["frame_guidance", self.least, self.shape]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if NEGATIVE not in step.x0:
            return guided
        wanted, unwanted = step.x0[POSITIVE], step.x0[NEGATIVE]
        axis = 0 if guided.dim() == 4 else 2
        weights = self._weights(guided.shape[axis], step.cfg).to(guided)
        weights = weights.reshape([-1 if at == axis else 1 for at in range(guided.dim())])
        return unwanted + weights * (wanted - unwanted)

    def _weights(self, frames: int, cfg: float) -> Tensor:
        if self.shape == "linear":
            return torch.linspace(self.least, cfg, frames)
        place = torch.linspace(0, 1, frames)
        return 2 * (place - (place + 0.5).floor()).abs() * (cfg - self.least) + self.least
