r"""Normalised attention guidance (NAG, arXiv 2505.21179): guidance inside the network, in what self-attention answers.

With :math:`z^+` and :math:`z^-` the answers of an attention for the prompt and for the negative, lengths by the sum of
absolute values over the channels of each token:

.. math:: g = s \, z^+ - (s - 1) \, z^-, \quad r = \lVert g \rVert_1 / \lVert z^+ \rVert_1, \quad
          z = \alpha \, g \min(1, \tau / r) + (1 - \alpha) \, z^+

z takes the place of :math:`z^+` for the tokens of the image; the negative's own pass stays as it is. It acts at a
weight of guidance of 1 as well, so models that were distilled to need no guidance follow a negative prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.patch import CallPatch
from ..samplers.guidance import NEGATIVE, POSITIVE, GuidancePatch, Side
from .guidance import Acts

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["NormalizedAttention", "NormalizedAttentionGuidance", "check_self_attention", "normalized"]

DOUBLE, SINGLE = "transformer_blocks.", "single_transformer_blocks."


@dataclass(frozen=True)
class NormalizedAttention(CallPatch):
    """The rows of a pass are those of the prompt and, behind them, those of the negative."""

    pairs: ClassVar[bool] = True
    scale: float
    alpha: float
    tau: float

    def identity(self) -> Any:
        return ["normalized_attention", self.scale, self.alpha, self.tau]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        text = 0
        """Tokens of the text, which stand before those of the image in blocks with one stream."""

        def unet(_: Module, given: Any, found: Tensor) -> Tensor:
            return self._both(found)

        def double(_: Module, given: Any, found: Any) -> Any:
            nonlocal text
            if not isinstance(found, tuple):
                return self._both(found)
            text = found[1].shape[1]
            return (self._both(found[0]), *found[1:])

        def single(_: Module, given: Any, found: Tensor) -> Tensor:
            return torch.cat([found[:, :text], self._both(found[:, text:])], dim=1)

        with ExitStack() as stack:
            for name, place in module.named_modules():
                if name.endswith(".attn1"):
                    stack.callback(place.register_forward_hook(unet).remove)
                elif name.startswith(DOUBLE) and name.endswith(".attn"):
                    stack.callback(place.register_forward_hook(double).remove)
                elif name.startswith(SINGLE) and name.endswith(".attn"):
                    stack.callback(place.register_forward_hook(single).remove)
            yield

    def _both(self, found: Tensor) -> Tensor:
        """[2 N, tokens, C] with the first half changed."""
        wanted, unwanted = found.chunk(2)
        return torch.cat([normalized(wanted, unwanted, self.scale, self.alpha, self.tau), unwanted])


def normalized(wanted: Tensor, unwanted: Tensor, scale: float, alpha: float, tau: float) -> Tensor:
    """z of the formula above; the last axis has the channels."""
    led = wanted * scale - unwanted * (scale - 1.0)
    length, own = (torch.linalg.vector_norm(z, ord=1, dim=-1, keepdim=True) for z in (led, wanted))
    ratio = torch.nan_to_num(length / own, nan=1.0)
    led = led * (ratio.clamp(max=tau) / ratio.clamp(min=torch.finfo(led.dtype).tiny))
    return alpha * led + (1.0 - alpha) * wanted


@dataclass(frozen=True)
class NormalizedAttentionGuidance(GuidancePatch):
    """The prompt is asked of the model under `NormalizedAttention`."""

    attention: NormalizedAttention
    acts: ClassVar[Acts] = "after"
    needs_negative: ClassVar[bool] = True

    def identity(self) -> Any:
        return ["normalized_attention_guidance", self.attention.identity()]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        if all(side.name != NEGATIVE for side in sides):
            raise GraphFlowError(
                [
                    Problem(
                        "no_negative",
                        "NAGuidance leads away from a negative, and this guider has none",
                        hint="use CFGGuider or KSampler with cfg 1",
                    )
                ]
            )
        return tuple(
            replace(side, model=side.model.with_patch(self.attention)) if side.name == POSITIVE else side
            for side in sides
        )


def check_self_attention(model: Model) -> None:
    """Raises a Problem where the network has neither the self-attention of a U-Net nor blocks with two streams."""
    ports = model.family.ports
    if "*.attn1" in ports.attentions or f"{DOUBLE}*" in ports.blocks:
        return
    raise GraphFlowError(
        [
            Problem(
                "no_port",
                f"NAGuidance compares attention in a U-Net, or in blocks with streams of text and image, which "
                f"{model.family.title} does not have",
                input="model",
                hint="leave the node out, or use Stable Diffusion, FLUX.1, Chroma or Qwen-Image",
            )
        ]
    )
