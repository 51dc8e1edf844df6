r"""Self-attention guidance (arXiv 2210.00939): away from what the model makes of an image that is blurred where it
looks.

With :math:`\hat x_0^-` the answer without the prompt, m the places that the middle of the network looks at more than on
average, G a Gaussian blur, and D the model's answer without the prompt to another latent:

.. math:: b = m \, G(\hat x_0^-) + (1 - m) \, \hat x_0^-, \qquad
          \hat x_0 \leftarrow \hat x_0 + s \, (b - D(x + b - \hat x_0^-))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.functional import conv2d, interpolate, pad

from graphflow import GraphFlowError, Problem

from ..samplers.guidance import NEGATIVE, GuidancePatch, Side, Step
from .attention import AttentionMap
from .guidance import Acts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SelfAttention", "blurred"]

KERNEL = 9
"""Cells of a side of the blur."""
BLURRED = "blurred"


@dataclass(frozen=True)
class SelfAttention(GuidancePatch):
    """It acts where the negative is asked; at a weight of guidance of 1 it does nothing."""

    scale: float
    deviation: float
    """Of the blur, in cells."""
    where: str = "mid_block.attentions.0.transformer_blocks.0.attn1"
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["self_attention", self.scale, self.deviation, self.where]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        """The negative is asked of the same model, which reports where it looks."""
        if self.scale == 0.0:
            return sides
        return tuple(
            replace(side, model=side.model.with_patch(AttentionMap(self.where))) if side.name == NEGATIVE else side
            for side in sides
        )

    def further(self, step: Step, sides: tuple[Side, ...]) -> tuple[tuple[Side, Tensor], ...]:
        if NEGATIVE not in step.x0 or self.scale == 0.0:
            return ()
        negative = next(side for side in sides if side.name == NEGATIVE)
        patches = tuple(patch for patch in negative.model.patches if not isinstance(patch, AttentionMap))
        asked = replace(negative, name=BLURRED, model=replace(negative.model, patches=patches))
        return ((asked, step.x + self._blurred(step) - step.x0[NEGATIVE]),)

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if BLURRED not in step.x0:
            return guided
        return guided + self.scale * (self._blurred(step) - step.x0[BLURRED])

    def _blurred(self, step: Step) -> Tensor:
        unwanted = step.x0[NEGATIVE]
        looked = step.inside.get(NEGATIVE, {}).get("attention")
        if looked is None:
            raise GraphFlowError(
                [
                    Problem(
                        "no_attention_map",
                        "SelfAttentionGuidance needs a negative that is asked about the whole image",
                        hint="leave out areas with mask bounds, or the node",
                    )
                ]
            )
        height, width = unwanted.shape[-2:]
        while height * width > looked.shape[-1]:
            height, width = -(-height // 2), -(-width // 2)
        mask = (looked.reshape(-1, 1, height, width) > 1.0).to(unwanted.dtype)
        mask = interpolate(mask, unwanted.shape[-2:])
        return blurred(unwanted, self.deviation) * mask + unwanted * (1.0 - mask)


def blurred(x: Tensor, deviation: float) -> Tensor:
    """x [B, C, h, w] under a Gaussian of KERNEL cells; edges are mirrored. A deviation of 0 leaves it as it is."""
    if deviation <= 0.0:
        return x
    places = torch.linspace(-(KERNEL // 2), KERNEL // 2, KERNEL, device=x.device)
    weights = (-0.5 * (places / deviation) ** 2).exp()
    weights = (weights / weights.sum()).to(x.dtype)
    channels, half = x.shape[1], KERNEL // 2
    kernel = (weights[:, None] * weights).expand(channels, 1, KERNEL, KERNEL)
    return conv2d(pad(x, (half,) * 4, mode="reflect"), kernel, groups=channels)
