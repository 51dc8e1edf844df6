"""ER-SDE: solvers of an SDE with the reverse diffusion's marginals and a noise of choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .stepper import Denoise, State, Stochastic, below_1, draw

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["ERSDE"]

POINTS = 200
"""Of the sums that stand for the integrals of orders 2 and 3."""


@dataclass(frozen=True)
class ERSDE(Stochastic):
    r"""Extended reverse-time SDE solvers (arXiv 2309.06169, algorithms 3 to 5), of up to three stages.

    With :math:`L = \sigma / \alpha` and the noise scale :math:`\phi`, from s to t, :math:`r = \phi(L_t) / \phi(L_s)`:

    .. math::
        x_t &= \tfrac{\alpha_t}{\alpha_s} r \, x_s + \alpha_t (1 - r) D
              + \alpha_t (h + S \phi(L_t)) D' + \alpha_t (\tfrac{h^2}{2} + U \phi(L_t)) D''
              + \alpha_t \sqrt{L_t^2 - r^2 L_s^2} \, n \\
        h &= L_t - L_s, \quad S = \int_{L_t}^{L_s} \frac{-dL}{\phi(L)}, \quad U = \int_{L_t}^{L_s} \frac{-(L - L_s)
        dL}{\phi(L)}

    D' and D'' are divided differences of the answers. :math:`\phi` is :math:`L (e^{L^{0.3}} + 10)` (ER-SDE),
    :math:`L^{1 + \eta}` (Reverse-time SDE), or L without noise (ODE).
    """

    solver_type: Literal["ER-SDE", "Reverse-time SDE", "ODE"] = "ER-SDE"
    max_stage: int = 3
    eta: float = 1.0
    s_noise: float = 1.0

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        state = super().begin(x, sigmas, seed, prediction)
        return replace(state, sigmas=below_1(sigmas, prediction))

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        levels = state.sigmas[max(state.index - 2, 0) : state.index + 2]
        scaled = levels / state.alpha(levels)
        here, there = scaled[-2], scaled[-1]
        alpha = state.alpha(after)
        phi_there = self._phi(there)
        ratio = phi_there / self._phi(here)
        x = alpha / state.alpha(sigma) * ratio * state.x + alpha * (1 - ratio) * denoised
        stage = min(self.max_stage, state.index + 1)
        history: tuple[Tensor, ...] = (denoised,)
        if stage >= 2:
            h = there - here
            stride = -h / POINTS
            points = there + torch.arange(POINTS, dtype=torch.float32) * stride
            weights = 1 / self._phi(points)
            slope = (denoised - state.history[0]) / (here - scaled[-3])
            x = x + alpha * (h + weights.sum() * stride * phi_there) * slope
            if stage >= 3:
                bend = (slope - state.history[1]) / ((here - scaled[-4]) / 2)
                second = ((points - here) * weights).sum() * stride
                x = x + alpha * (h**2 / 2 + second * phi_there) * bend
            history = (denoised, slope)
        if self.solver_type == "ODE" or self.s_noise == 0:
            return state.stepped(x, history)
        noise, rng = draw(state)
        deviation = (there**2 - here**2 * ratio**2).sqrt().nan_to_num(nan=0.0)
        return state.stepped(x + alpha * noise * self.s_noise * deviation, history, rng)

    def _phi(self, scaled: Tensor) -> Tensor:
        if self.solver_type == "ER-SDE":
            return scaled * ((scaled**0.3).exp() + 10.0)
        return scaled ** ((0.0 if self.solver_type == "ODE" else self.eta) + 1)
