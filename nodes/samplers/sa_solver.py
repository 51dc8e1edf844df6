"""SA-Solver: stochastic Adams methods, a predictor and a corrector."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .stepper import Denoise, State, Stochastic, below_1, draw

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["SASolver"]


@dataclass(frozen=True)
class SASolver(Stochastic):
    r"""SA-Solver (arXiv 2309.05019, equations 14 and 17), :math:`\lambda = \ln(\alpha / \sigma)`,
    :math:`h = \Delta \lambda`.

    .. math:: x_{i+1} = \tfrac{\sigma_{i+1}}{\sigma_i} e^{-\tau^2 h} x_i + \sum_j b_j D_j
              + \sigma_{i+1} \sqrt{1 - e^{-2 \tau^2 h}} \, n, \qquad
              b_j = \alpha_{i+1} \int_{\lambda_i}^{\lambda_{i+1}} (1 + \tau^2) e^{-(1 + \tau^2)(\lambda_{i+1} -
              \lambda)} l_j(\lambda) \, d\lambda

    :math:`l_j` are the Lagrange polynomials through the last answers. The predictor knows those up to
    :math:`\lambda_i`; the corrector takes the step again with the answer at its end and the same noise. :math:`\tau` is
    `eta` between the levels at the shares `start_percent` and `end_percent` of the sampling, 0 outside. With `use_pece`
    the corrected x is asked again. With `simple_order_2` the weights of second order are those of the exponential
    midpoint rule.

    The state's x is the predicted one; `history` holds the corrected x before it, the noise in it, and the answers.
    """

    eta: float = 1.0
    s_noise: float = 1.0
    predictor_order: int = 3
    corrector_order: int = 4
    start_percent: float = 0.2
    end_percent: float = 0.8
    use_pece: bool = False
    simple_order_2: bool = False

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        from ..model.prediction import Epsilon

        known = prediction if prediction is not None else Epsilon()
        noisy = (known.at(self.end_percent), known.at(self.start_percent))
        state = super().begin(x, sigmas, seed, prediction)
        return replace(state, sigmas=below_1(sigmas, prediction), numbers=noisy)

    def step(self, state: State, denoise: Denoise) -> State:
        index, sigmas, sigma, after = state.index, state.sigmas, state.sigma, state.after
        x, denoised = state.x, denoise(state.x, sigma)
        answers = (*state.history[2:], denoised)[-max(self.predictor_order, self.corrector_order) :]
        ends_in_0 = bool(sigmas[-1] == 0)
        order = 0 if index == 0 or (after == 0 and not self.use_pece) else min(self.corrector_order, len(answers))
        order = min(order, len(sigmas) - 1 - index) if ends_in_0 else order
        if order > 0:
            before, noise = state.history[:2]
            x = self._mean(state, index - 1, before, answers[-order:], index) + noise
            if self.use_pece:
                denoised = denoise(x, sigma)
                answers = (*answers[:-1], denoised)
        if after == 0:
            return state.stepped(denoised)
        order = min(self.predictor_order, len(answers))
        order = min(order, len(sigmas) - 2 - index) if ends_in_0 else order
        mean = self._mean(state, index, x, answers[-order:], index)
        tau, h = self._tau(state, after), state.log_step()
        noise, rng = torch.zeros(()), state.rng
        if tau > 0 and self.s_noise > 0:
            noise, rng = draw(state)
            noise = noise * after * (-torch.expm1(-2 * tau**2 * h)).sqrt() * self.s_noise
        return state.stepped(mean + noise, (x, noise, *answers), rng)

    def _mean(self, state: State, index: int, x: Tensor, answers: tuple[Tensor, ...], last: int) -> Tensor:
        """The step from `index` without noise; the answers are those at the levels up to `last`, latest last."""
        here, there = state.sigmas[index], state.sigmas[index + 1]
        tau = self._tau(state, there)
        levels = state.half_log_snr(state.sigmas[last + 1 - len(answers) : last + 1].double()).tolist()
        start, end = state.half_log_snr(state.sigmas[index : index + 2].double()).tolist()
        alpha = float(state.alpha(there))
        if self.simple_order_2 and len(answers) == 2:
            weights = _simple(levels, start, end, tau, corrects=last > index)
        else:
            weights = _adams(levels, start, end, tau)
        x = there / here * math.exp(-(tau**2) * (end - start)) * x
        for weight, answer in zip(weights, answers, strict=True):
            x = x + alpha * weight * answer
        return x

    def _tau(self, state: State, sigma: Tensor) -> float:
        low, high = state.numbers
        return self.eta if low <= float(sigma) <= high else 0.0


def _adams(levels: list[float], start: float, end: float, tau: float) -> list[float]:
    r""":math:`\int_s^e k e^{-k (e - \lambda)} l_j(\lambda) d\lambda` with :math:`k = 1 + \tau^2`, for each level j."""
    k, count = 1 + tau**2, len(levels)
    h = end - start
    # Moments of u = lambda - end: m_p = [u^p e^(k u)] - p / k m_(p-1), from -h to 0.
    moments = [-math.expm1(-k * h)]
    for power in range(1, count):
        moments.append(-((-h) ** power) * math.exp(-k * h) - power / k * moments[-1])
    rows = torch.tensor([[(level - end) ** power for level in levels] for power in range(count)], dtype=torch.float64)
    found: list[float] = torch.linalg.solve(rows, torch.tensor(moments, dtype=torch.float64)).tolist()
    return found


def _simple(levels: list[float], start: float, end: float, tau: float, corrects: bool) -> list[float]:
    r"""The weights of second order with the slope times :math:`k h^2 / 2` in place of its exact integral."""
    k, h = 1 + tau**2, end - start
    whole = -math.expm1(-k * h)
    second = k * h**2 / 2 / (levels[1] - levels[0])
    return [whole - second, second] if corrects else [-second, whole + second]
