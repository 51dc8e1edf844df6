"""Patches of guidance: pure functions of the sides' answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from ..model.conditioning import Batch, content
from ..samplers.guidance import NEGATIVE, POSITIVE, GuidancePatch, Side, Step
from .attention import ValuesOnly

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["APG", "CFGNorm", "CFGZeroStar", "NoiseNorm", "PerpNeg", "PerturbedAttention", "RenormCFG", "RescaleCFG"]

Acts = Literal["before", "instead", "after"]


@dataclass(frozen=True)
class RescaleCFG(GuidancePatch):
    r"""Guided velocities keep the spread of those with the prompt (arXiv 2305.08891, equations 15 and 16).

    .. math:: v = v^- + w (v^+ - v^-), \quad v' = v \, \mathrm{std}(v^+) / \mathrm{std}(v), \quad
              \hat v = \phi v' + (1 - \phi) v

    The velocity of a clean latent d at x is :math:`(x / (\sigma^2 + 1) - d) \sqrt{\sigma^2 + 1} / \sigma`; for flow
    models the same is done with the clean latents. ComfyUI hands over noise, x - d, in float32, and takes noise back:
    at levels of 1e4 and more that rounding shows, and so it is done here as well.
    """

    share: float
    acts: ClassVar[Acts] = "instead"

    def identity(self) -> Any:
        return ["rescale_cfg", self.share]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if NEGATIVE not in step.x0:
            return guided
        wanted, unwanted = (self._velocity(step, _rounded(step, step.x0[side])) for side in (POSITIVE, NEGATIVE))
        mixed = unwanted + step.cfg * (wanted - unwanted)
        axes = tuple(range(1, mixed.dim()))
        rescaled = mixed * (wanted.std(axes, keepdim=True) / mixed.std(axes, keepdim=True))
        return _rounded(step, self._clean(step, self.share * rescaled + (1.0 - self.share) * mixed))

    @staticmethod
    def _velocity(step: Step, x0: Tensor) -> Tensor:
        if step.is_flow:
            return x0
        s = step.sigma
        return (step.x / (s**2 + 1) - x0) * (s**2 + 1) ** 0.5 / s

    @staticmethod
    def _clean(step: Step, v: Tensor) -> Tensor:
        if step.is_flow:
            return v
        s = step.sigma
        return step.x / (s**2 + 1) - v * s / (s**2 + 1) ** 0.5


def _rounded(step: Step, x0: Tensor) -> Tensor:
    """A clean latent as its noise at x leaves it in float32."""
    return step.x - (step.x - x0)


@dataclass(frozen=True)
class CFGNorm(GuidancePatch):
    r"""A guided clean latent is nowhere longer than the one with the prompt; lengths are over the channels.

    .. math:: \hat x_0 = s \, x_0 \min(1, \lVert x_0^+ \rVert / \lVert x_0 \rVert)
    """

    strength: float
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["cfg_norm", self.strength]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        longest, length = (x0.norm(dim=1, keepdim=True) for x0 in (step.x0[POSITIVE], guided))
        kept: Tensor = (longest / (length + 1e-8)).clamp(0.0, 1.0)
        return guided * kept * self.strength


@dataclass(frozen=True)
class NoiseNorm(GuidancePatch):
    r"""Guided noise is everywhere as long as the one with the prompt, by a share s; lengths are over the channels.

    With n = x - x0 of each side, in place of the formula of guidance:

    .. math:: n = n^- + w (n^+ - n^-), \quad n' = n \, \lVert n^+ \rVert / \lVert n \rVert, \quad
              \hat x_0 = x - (s \, n' + (1 - s) \, n)
    """

    share: float
    acts: ClassVar[Acts] = "instead"

    def identity(self) -> Any:
        return ["noise_norm", self.share]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if NEGATIVE not in step.x0:
            return guided
        wanted, unwanted = (step.x - step.x0[side] for side in (POSITIVE, NEGATIVE))
        mixed = unwanted + step.cfg * (wanted - unwanted)
        longest, length = (noise.norm(dim=1, keepdim=True) for noise in (wanted, mixed))
        rescaled = mixed * torch.where(length > 0, longest / length, 1.0)
        return step.x - (self.share * rescaled + (1.0 - self.share) * mixed)


@dataclass(frozen=True)
class RenormCFG(GuidancePatch):
    r"""A guided clean latent is as a whole not longer than r times the one with the prompt; above a level, no guidance.

    .. math:: \hat x_0 = x_0 \min(1, r \lVert x_0^+ \rVert / \lVert x_0 \rVert), \quad x_0 = x_0^- + w (x_0^+ - x_0^-)

    r = 0 leaves the length as it is. Lumina Image 2.0, arXiv 2503.21758, section 3.4.
    """

    below: float
    """Noise levels from this one on are without guidance."""
    most: float
    """r."""
    acts: ClassVar[Acts] = "instead"

    def identity(self) -> Any:
        return ["renorm_cfg", self.below, self.most]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        wanted = step.x0[POSITIVE]
        if NEGATIVE not in step.x0:
            return guided
        if float(step.sigma) >= self.below:
            return wanted
        mixed = step.x0[NEGATIVE] + step.cfg * (wanted - step.x0[NEGATIVE])
        if self.most <= 0.0:
            return mixed
        axes = tuple(range(1, mixed.dim()))
        longest, length = (torch.linalg.vector_norm(x0, dim=axes, keepdim=True) for x0 in (wanted, mixed))
        return torch.where(length >= longest * self.most, mixed * (longest * self.most / length), mixed)


@dataclass(frozen=True)
class CFGZeroStar(GuidancePatch):
    r"""The negative is first brought to the length that is nearest to the positive (CFG-Zero*, arXiv 2503.18886).

    .. math:: \hat x_0 = a n + w (p - a n), \quad a = \frac{(x - p) \cdot (x - n)}{(x - n) \cdot (x - n)}

    Products are over each latent.
    """

    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["cfg_zero_star"]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if NEGATIVE not in step.x0:
            return guided
        unwanted = step.x0[NEGATIVE]
        one, other = step.x - step.x0[POSITIVE], step.x - unwanted
        axes = tuple(range(1, other.dim()))
        a = (one * other).sum(axes, keepdim=True) / ((other**2).sum(axes, keepdim=True) + 1e-8)
        return guided + unwanted * (a - 1.0) + step.cfg * unwanted * (1.0 - a)


@dataclass(frozen=True)
class APG(GuidancePatch):
    r"""Adaptive projected guidance (arXiv 2410.02416): the part of the difference that is parallel to the positive,
    which burns colours, is weighed by itself, and long differences are cut.

    With :math:`g = \min(1, r / \lVert p - n \rVert) (p - n)`, its parts along p and at right angles to it:

    .. math:: \hat x_0 = n + w \, p' - w \, n, \quad p' = n + g_\perp + \eta \, g_\parallel + (p - n) / w

    Lengths and products are over the channels and places of each latent. With a momentum m the difference p - n in g
    is :math:`d_i = (p - n)_i + m \, d_{i-1}` (equation 8), beginning anew where the noise level rises.
    """

    eta: float
    threshold: float
    momentum: float = 0.0
    acts: ClassVar[Acts] = "before"

    def identity(self) -> Any:
        return ["apg", self.eta, self.threshold, self.momentum]

    def remember(self, step: Step) -> Mapping[str, Tensor]:
        if self.momentum == 0.0 or NEGATIVE not in step.x0:
            return {}
        difference, before = step.x0[POSITIVE] - step.x0[NEGATIVE], step.memory
        if before and float(step.sigma) <= float(before["sigma"]):
            difference = difference + self.momentum * before["difference"].to(difference)
        return {"difference": difference, "sigma": step.sigma}

    def answers(self, step: Step) -> Mapping[str, Tensor]:
        if NEGATIVE not in step.x0:
            return step.x0
        wanted, unwanted = step.x0[POSITIVE], step.x0[NEGATIVE]
        axes = tuple(range(1, wanted.dim()))
        difference = wanted - unwanted
        lead = step.memory.get("difference", difference)
        if self.threshold > 0.0:
            lead = lead * (self.threshold / torch.linalg.vector_norm(lead, dim=axes, keepdim=True)).clamp(max=1.0)
        along = wanted * ((lead * wanted).sum(axes, keepdim=True) / (wanted**2).sum(axes, keepdim=True))
        changed = unwanted + (lead - along) + self.eta * along + difference / step.cfg
        return {**step.x0, POSITIVE: changed}


@dataclass(frozen=True)
class PerpNeg(GuidancePatch):
    r"""Only what of the negative stands at right angles to the positive is led away from (Perp-Neg, arXiv 2304.04968).

    With :math:`P = x_0^+ - x_0^\varnothing` and :math:`N = x_0^- - x_0^\varnothing`, products over each latent:

    .. math:: \hat x_0 = x_0^\varnothing + w \, (P - s \, (N - \tfrac{N \cdot P}{P \cdot P} P))
    """

    empty: tuple[Batch, ...]
    """The conditioning of an empty prompt."""
    scale: float
    acts: ClassVar[Acts] = "instead"
    needs_negative: ClassVar[bool] = True

    def identity(self) -> Any:
        return ["perp_neg", content(self.empty), self.scale]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        return (*sides, Side("empty", sides[-1].model, self.empty))

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        empty = step.x0["empty"]
        wanted, unwanted = step.x0[POSITIVE] - empty, step.x0.get(NEGATIVE, empty) - empty
        axes = tuple(range(1, empty.dim()))
        along = (unwanted * wanted).sum(axes, keepdim=True) / (wanted**2).sum(axes, keepdim=True)
        return empty + step.cfg * (wanted - self.scale * (unwanted - torch.nan_to_num(along) * wanted))


@dataclass(frozen=True)
class PerturbedAttention(GuidancePatch):
    r"""Away from the answer of the same network without self-attention in its middle (arXiv 2403.17377).

    .. math:: \hat x_0 = x_0 + s \, (x_0^+ - x_0^{perturbed})
    """

    scale: float
    where: str = "mid_block.*.attn1"
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["perturbed_attention", self.scale, self.where]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        if self.scale == 0.0:
            return sides
        positive = next(side for side in sides if side.name == POSITIVE)
        perturbed = positive.model.with_patch(ValuesOnly(self.where))
        return (*sides, replace(positive, name="perturbed", model=perturbed))

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if self.scale == 0.0:
            return guided
        return guided + self.scale * (step.x0[POSITIVE] - step.x0["perturbed"])
