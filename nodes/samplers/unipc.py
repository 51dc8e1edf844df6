"""UniPC: a predictor, and a corrector that costs no model call of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from .stepper import Denoise, Deterministic, State, is_flow, weighted

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["UniPC"]


@dataclass(frozen=True)
class UniPC(Deterministic):
    r"""Multistep UniPC-3 for models that predict the clean latent (arXiv 2302.04867, algorithms 6 and 8).

    It walks in the paper's variables :math:`x_t = \bar\alpha x`, :math:`\bar\alpha = 1 / \sqrt{1 + \sigma^2}`,
    :math:`\bar\sigma = \sigma \bar\alpha`, :math:`\lambda = \ln \bar\alpha - \ln \bar\sigma`,
    :math:`h = \Delta \lambda`:

    .. math:: x_{i+1} = \tfrac{\bar\sigma_{i+1}}{\bar\sigma_i} x_i - \bar\alpha_{i+1} (e^{-h} - 1) D_i
              - \bar\alpha_{i+1} B(h) \sum_m \tfrac{a_m}{r_m} (D_{i-m} - D_i)

    B(h) is -h, or :math:`e^{-h} - 1` with `bh2`; the weights a solve equation 5. Both ends have lower orders. `history`
    holds the answers at the levels behind and at the one that is reached, latest last: the corrector uses the answer at
    a step's predicted end, and the next step starts with that answer.
    """

    bh2: bool = False

    ORDER: ClassVar[int] = 3
    LAST: ClassVar[float] = 0.001
    """The level it stops at instead of 0, which has no logarithm."""

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        if sigmas[-1] == 0:
            sigmas = torch.cat([sigmas[:-1], sigmas.new_tensor([self.LAST])])
        return State(x / (1 + sigmas[0] ** 2).sqrt(), sigmas, flow=is_flow(prediction))

    def step(self, state: State, denoise: Denoise) -> State:
        index, steps = state.index, len(state.sigmas) - 1
        alpha, sigma, lamb = _variables(state.sigmas)

        def ask(x: Tensor, at: int) -> Tensor:
            return denoise(x / alpha[at], state.sigmas[at])

        known = state.history or (ask(state.x, index),)
        order = max(1, min(self.ORDER, steps - 1, index + 1, steps - index))
        h = lamb[index + 1] - lamb[index]
        places = [float((lamb[index - k] - lamb[index]) / h) for k in range(1, order)]
        slopes = [(known[-1 - k] - known[-1]) / place for k, place in enumerate(places, start=1)]
        base = sigma[index + 1] / sigma[index] * state.x - alpha[index + 1] * torch.expm1(-h) * known[-1]
        scale = alpha[index + 1] * (torch.expm1(-h) if self.bh2 else -h)
        x = base - scale * weighted(slopes, self._weights([*places, 1.0], h, predicts=True))
        if index + 1 == steps:
            return state.stepped(x / alpha[index + 1])
        answer = ask(x, index + 1)
        x = base - scale * weighted([*slopes, answer - known[-1]], self._weights([*places, 1.0], h, predicts=False))
        return state.stepped(x, (*known, answer)[-self.ORDER :])

    def _weights(self, places: list[float], h: Tensor, predicts: bool) -> list[float]:
        """The solution of equation 5: what the slopes count, so that the powers of h below the order vanish."""
        order, value = len(places), -float(h)
        if order == 1:
            return [] if predicts else [0.5]
        if order == 2 and predicts:
            return [0.5]
        scale = math.expm1(value) if self.bh2 else value
        phi, wanted = math.expm1(value) / value - 1, []
        for power in range(1, order + 1):
            wanted.append(phi * math.factorial(power) / scale)
            phi = phi / value - 1 / math.factorial(power + 1)
        rows = torch.tensor([[place**power for place in places] for power in range(order)], dtype=torch.float64)
        right = torch.tensor(wanted, dtype=torch.float64)
        if predicts:
            rows, right = rows[:-1, :-1], right[:-1]
        found: list[float] = torch.linalg.solve(rows, right).tolist()
        return found


def _variables(sigmas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r""":math:`\bar\alpha, \bar\sigma, \lambda` of levels."""
    log_alpha = 0.5 * (1 / (sigmas**2 + 1)).log()
    deviation = (1 - (2 * log_alpha).exp()).sqrt()
    return log_alpha.exp(), deviation, log_alpha - deviation.log()
