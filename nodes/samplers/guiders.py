"""Guiders of more than one pair of sides, and a weight that differs in a batch; `guidance.py` has the plain form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..model.conditioning import Batch
from ..model.handles import Model
from .guidance import CFG, NEGATIVE, POSITIVE, GuidancePatch, Guider, Side, Step

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KINDS", "DualCFG", "DualModel", "LinearCFG", "PerpNegGuider", "TriangleCFG"]

Batches = tuple[Batch, ...]
MIDDLE, EMPTY = "middle", "empty"


@dataclass(frozen=True, eq=False)
class DualCFG:
    r"""Guidance by two conditionings, such as text with an image, and the image alone (arXiv 2211.09800, equation 3).

    .. math:: \hat x_0 = n + b \, (m - n) + a \, (p - m), \qquad \text{nested:} \quad \hat x_0 = n + b \, (m + a (p - m)
    - n)

    p is the answer to the first conditioning, m to the second, n to the negative; a is `cfg`, b is `cfg_middle`. With a
    b of 1 the negative is not asked, and with an a of 1, too, neither is the second; the nested form asks all.
    """

    model: Model
    positive: Batches
    middle: Batches
    negative: Batches
    cfg: float
    cfg_middle: float
    nested: bool = False

    def sides(self, sigma: float) -> tuple[Side, ...]:
        positive = Side(POSITIVE, self.model, self.positive)
        middle = Side(MIDDLE, self.model, self.middle)
        negative = Side(NEGATIVE, self.model, self.negative)
        if self.nested or not _is_1(self.cfg_middle):
            return (negative, middle, positive)
        return (positive,) if _is_1(self.cfg) else (middle, positive)

    def combine(self, step: Step) -> Tensor:
        positive, middle, negative = step.x0[POSITIVE], step.x0.get(MIDDLE), step.x0.get(NEGATIVE)
        if middle is None:
            return positive
        if self.nested:
            assert negative is not None
            mixed = middle + step.cfg * (positive - middle)
            return negative + self.cfg_middle * (mixed - negative)
        base = middle if negative is None else negative + self.cfg_middle * (middle - negative)
        return base + step.cfg * (positive - middle)


@dataclass(frozen=True, eq=False)
class DualModel:
    """Classifier-free guidance whose negative is the answer of another model; with a weight of 1 it is not asked."""

    model: Model
    positive: Batches
    negative_model: Model
    negative: Batches
    cfg: float

    def sides(self, sigma: float) -> tuple[Side, ...]:
        positive = Side(POSITIVE, self.model, self.positive)
        return (positive,) if _is_1(self.cfg) else (Side(NEGATIVE, self.negative_model, self.negative), positive)

    def combine(self, step: Step) -> Tensor:
        wanted, unwanted = step.x0[POSITIVE], step.x0.get(NEGATIVE)
        return wanted if unwanted is None else unwanted + step.cfg * (wanted - unwanted)


@dataclass(frozen=True, eq=False)
class PerpNegGuider:
    r"""Perp-Neg (arXiv 2304.04968, equation 8): only what is perpendicular to the positive is taken off.

    .. math:: \hat x_0 = e + w \, (p - s \, n_\perp), \quad p = x_0^+ - e, \; n = x_0^- - e, \quad
              n_\perp = n - \frac{n \cdot p}{p \cdot p} \, p

    e is the answer to the empty conditioning. The products are over the whole batch.
    """

    model: Model
    positive: Batches
    negative: Batches
    empty: Batches
    cfg: float
    scale: float

    def sides(self, sigma: float) -> tuple[Side, ...]:
        return (
            Side(NEGATIVE, self.model, self.negative),
            Side(POSITIVE, self.model, self.positive),
            Side(EMPTY, self.model, self.empty),
        )

    def combine(self, step: Step) -> Tensor:
        empty = step.x0[EMPTY]
        positive, negative = step.x0[POSITIVE] - empty, step.x0[NEGATIVE] - empty
        perpendicular = negative - (negative * positive).sum() / (positive**2).sum() * positive
        return empty + step.cfg * (positive - self.scale * perpendicular)


@dataclass(frozen=True)
class LinearCFG(GuidancePatch):
    r"""Guidance whose weight grows evenly over the latents of a batch, the frames of a video: from `start` to that of
    the guider.

    .. math:: \hat x_0^{(i)} = x_0^{-(i)} + w_i \, (x_0^{+(i)} - x_0^{-(i)}), \quad
              w_i = w_{start} + \tfrac{i}{B - 1} (w - w_{start})
    """

    acts: ClassVar[Literal["before", "instead", "after"]] = "instead"
    start: float = 1.0

    def identity(self) -> list[Any]:
        return ["linear_cfg", self.start]

    def weights(self, count: int, cfg: float, device: Any) -> Tensor:
        """Of each latent of a batch."""
        import torch

        return torch.linspace(self.start, cfg, count, device=device)

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        wanted, unwanted = step.x0[POSITIVE], step.x0.get(NEGATIVE)
        if unwanted is None:
            return guided
        weights = self.weights(len(wanted), step.cfg, wanted.device)
        return unwanted + weights.view(-1, *(1,) * (wanted.dim() - 1)) * (wanted - unwanted)


@dataclass(frozen=True)
class TriangleCFG(LinearCFG):
    r"""The same with a weight that grows to the middle frame and falls again.

    .. math:: w_i = w_{start} + 2 \, |t - \lfloor t + \tfrac{1}{2} \rfloor| \, (w - w_{start}), \quad t = i / (B - 1)
    """

    def identity(self) -> list[Any]:
        return ["triangle_cfg", self.start]

    def weights(self, count: int, cfg: float, device: Any) -> Tensor:
        import torch

        t = torch.linspace(0.0, 1.0, count, device=device)
        return self.start + 2.0 * (t - (t + 0.5).floor()).abs() * (cfg - self.start)


def _is_1(weight: float) -> bool:
    return abs(weight - 1.0) < 1e-9


def _cfg(models: Sequence[Model], sides: Sequence[Batches], numbers: Sequence[float]) -> Guider:
    return CFG(models[0], sides[0], sides[1] if len(sides) > 1 else None, numbers[0] if numbers else 1.0)


def _dual(models: Sequence[Model], sides: Sequence[Batches], numbers: Sequence[float]) -> Guider:
    positive, middle, negative = sides
    return DualCFG(models[0], positive, middle, negative, cfg=numbers[0], cfg_middle=numbers[1])


def _nested(models: Sequence[Model], sides: Sequence[Batches], numbers: Sequence[float]) -> Guider:
    positive, middle, negative = sides
    return DualCFG(models[0], positive, middle, negative, cfg=numbers[0], cfg_middle=numbers[1], nested=True)


def _dual_model(models: Sequence[Model], sides: Sequence[Batches], numbers: Sequence[float]) -> Guider:
    return DualModel(models[0], sides[0], models[1], sides[1], numbers[0])


def _perp_neg(models: Sequence[Model], sides: Sequence[Batches], numbers: Sequence[float]) -> Guider:
    positive, negative, empty = sides
    return PerpNegGuider(models[0], positive, negative, empty, cfg=numbers[0], scale=numbers[1])


KINDS: Mapping[str, Callable[[Sequence[Model], Sequence[Any], Sequence[float]], Guider]] = {
    "cfg": _cfg,
    "dual": _dual,
    "dual_nested": _nested,
    "dual_model": _dual_model,
    "perp_neg": _perp_neg,
}
"""Kind of a GuiderHandle -> what makes its guider of (models, conditionings, numbers), one each for its sides."""
