"""Guidance of papers, as pure functions of the sides' answers: damped, biased, by frequencies; and answers whose noise
is rescaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..samplers.guidance import NEGATIVE, POSITIVE, GuidancePatch, Step
from .guidance import Acts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EpsilonScaling", "FrequencyScaling", "PositiveBias", "TangentialDamping", "TemporalRescaling"]


@dataclass(frozen=True)
class TangentialDamping(GuidancePatch):
    r"""The negative keeps only what it has in common with the prompt (TCFG, arXiv 2503.18137).

    With the noise :math:`n = x - x_0` of both sides as the two rows of a matrix, and :math:`v_1` the right singular
    vector of its larger singular value, over the channels and places of each latent:

    .. math:: n^- \leftarrow (n^- \cdot v_1) \, v_1, \quad v_1 \propto \cos\theta \, n^+ + \sin\theta \, n^-, \quad
              \tan 2\theta = \frac{2 \, n^+ \cdot n^-}{\lVert n^+ \rVert^2 - \lVert n^- \rVert^2}

    For flow models x - x0 is the velocity times the level, which is what the authors' code damps there.
    """

    acts: ClassVar[Acts] = "before"

    def identity(self) -> Any:
        return ["tangential_damping"]

    def answers(self, step: Step) -> Mapping[str, Tensor]:
        if NEGATIVE not in step.x0:
            return step.x0
        wanted, unwanted = (step.x - step.x0[side] for side in (POSITIVE, NEGATIVE))
        axes = tuple(range(1, wanted.dim()))
        theta = torch.atan2(
            2.0 * _dot(wanted, unwanted, axes), _dot(wanted, wanted, axes) - _dot(unwanted, unwanted, axes)
        )
        common = (theta / 2).cos() * wanted + (theta / 2).sin() * unwanted
        share = _dot(unwanted, common, axes) / _dot(common, common, axes)
        return {**step.x0, NEGATIVE: step.x - torch.nan_to_num(share) * common}


def _dot(a: Tensor, b: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (a * b).sum(axes, keepdim=True)


@dataclass(frozen=True)
class PositiveBias(GuidancePatch):
    r"""The less the guided answer is like the negative, the more of it is the prompt's own, times w ("Mahiro").

    With :math:`l = w \, x_0^+`, :math:`m = (l + x_0) / 2` and :math:`q(a) = \mathrm{sign}(a) \sqrt{|a|}`:

    .. math:: k = 2 \, (1 + \overline{\cos}(q(w \, x_0^-), q(m))), \quad \hat x_0 = \tfrac14 (k \, x_0 + (4 - k) \, l)

    The cosine is over the channels; its mean is over all places of the whole batch, as in ComfyUI.
    """

    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["positive_bias"]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if NEGATIVE not in step.x0:
            return guided
        lead = step.cfg * step.x0[POSITIVE]
        roots = (_parts(step, _root(a)) for a in (step.cfg * step.x0[NEGATIVE], (lead + guided) / 2))
        cosines = [torch.cosine_similarity(a, b, dim=1).flatten() for a, b in zip(*roots, strict=True)]
        likeness = torch.cat(cosines).mean()
        share = 2.0 * (1.0 + likeness)
        return (share * guided + (4.0 - share) * lead) / 4.0


def _root(a: Tensor) -> Tensor:
    return a.sign() * a.abs().sqrt()


def _parts(step: Step, a: Tensor) -> tuple[Tensor, ...]:
    """The video and its sound, where a latent is both."""
    return (a,) if step.pair is None else step.pair.parts(a)


@dataclass(frozen=True)
class FrequencyScaling(GuidancePatch):
    r"""Guidance whose low and high frequencies have weights of their own (FreSca, arXiv 2504.02154).

    .. math:: x_0^+ \leftarrow x_0^- + F^{-1}(s \, F(x_0^+ - x_0^-))

    F is the Fourier transform over rows and columns; s is `low` at the frequencies -r to r - 1 of both, and `high`
    elsewhere, with r the smaller of `cutoff` and half of the shorter side (the form of the authors' code). The sound of
    a video is guided as without it.
    """

    low: float
    high: float
    cutoff: int
    acts: ClassVar[Acts] = "before"

    def identity(self) -> Any:
        return ["frequency_scaling", self.low, self.high, self.cutoff]

    def answers(self, step: Step) -> Mapping[str, Tensor]:
        if NEGATIVE not in step.x0 or self.low == self.high == 1.0:
            return step.x0
        unwanted = step.x0[NEGATIVE]
        image, *sound = _parts(step, step.x0[POSITIVE] - unwanted)
        scaled = torch.fft.ifft2(torch.fft.fft2(image) * self._scales(*image.shape[-2:]).to(image.device)).real
        if step.pair is not None:
            scaled = step.pair.packed(scaled, *sound)
        return {**step.x0, POSITIVE: unwanted + scaled}

    def _scales(self, height: int, width: int) -> Tensor:
        """[height, width], the frequency 0 first."""
        reach = min(self.cutoff, height // 2, width // 2)
        rows, columns = (torch.fft.fftfreq(side, 1.0 / side).round() for side in (height, width))
        is_low = ((rows >= -reach) & (rows < reach))[:, None] & ((columns >= -reach) & (columns < reach))
        return torch.where(is_low, self.low, self.high)


@dataclass(frozen=True)
class EpsilonScaling(GuidancePatch):
    r"""Guided noise is divided by a number near 1, against noise that grows over the steps (arXiv 2308.15321).

    .. math:: \hat x_0 = x - (x - x_0) / \lambda
    """

    factor: float
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["epsilon_scaling", self.factor]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        return guided if self.factor == 1.0 else step.x - (step.x - guided) / self.factor


@dataclass(frozen=True)
class TemporalRescaling(GuidancePatch):
    r"""Images of a sharper or a flatter distribution than that of the training (TSR, arXiv 2510.01184).

    The score of data of the deviation s around some image is rescaled to that of the deviation :math:`s / \sqrt k`.
    With :math:`x = \alpha x_0 + \sigma n`:

    .. math:: \hat x_0 = \frac{x}{\alpha} + r \, (x_0 - \frac{x}{\alpha}), \quad
              r = \frac{\eta \, s^2 + 1}{\eta \, s^2 / k + 1}, \quad \eta = \alpha^2 / \sigma^2
    """

    k: float
    deviation: float
    """s"""
    acts: ClassVar[Acts] = "after"

    def identity(self) -> Any:
        return ["temporal_rescaling", self.k, self.deviation]

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        sigma = float(step.sigma)
        alpha = 1.0 - sigma if step.is_flow else 1.0
        if self.k == 1.0 or sigma <= 0.0 or alpha <= 0.0:
            return guided
        signal = (alpha * self.deviation / sigma) ** 2
        ratio = (signal + 1.0) / (signal / self.k + 1.0)
        noisy = step.x / alpha
        return noisy + ratio * (guided - noisy)
