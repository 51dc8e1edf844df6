r"""DPM-Solver++ on the diffusion SDE (arXiv 2211.01095, section 5): every step adds noise of one Brownian path.

With :math:`\lambda = \ln(\alpha / \sigma)`, :math:`h = \Delta \lambda` and the share `eta` of noise,

.. math:: x_{i+1} = \tfrac{\sigma_{i+1}}{\sigma_i} e^{-\eta h} x_i + \alpha_{i+1} (1 - e^{-(1 + \eta) h}) D_i
          + \sigma_{i+1} \sqrt{1 - e^{-2 \eta h}} \, n

is the step of first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .brownian import Brownian, path
from .stepper import Denoise, State, ancestral

__all__ = ["DPMpp2MSDE", "DPMpp3MSDE", "DPMppSDE"]


@dataclass(frozen=True)
class DPMppSDE(Brownian):
    r"""Two model calls a step, the second at a share r of it in lambda. Each half goes down to a lower level.

    .. math:: u = \tfrac{\alpha_m}{\alpha_i} e^{-h'} x_i + \alpha_m (1 - e^{-h'}) D_i + \alpha_m up \, n, \quad
              x_{i+1} = \tfrac{\alpha_{i+1}}{\alpha_i} e^{-h''} x_i
              + \alpha_{i+1} (1 - e^{-h''}) \left((1 - \tfrac{1}{2r}) D_i + \tfrac{1}{2r} D_m\right) + \alpha_{i+1} up
              \, n
    """

    eta: float = 1.0
    s_noise: float = 1.0
    r: float = 0.5

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        start, end = state.half_log_snr(sigma), state.half_log_snr(after)
        middle = state.level(start + self.r * (end - start))  # in this order: the path feels the last digit
        half = self._to(state, start, middle, denoised)
        share = 1 / (2 * self.r)
        mixed = (1 - share) * denoised + share * denoise(half, middle)
        return state.stepped(self._to(state, start, after, mixed))

    def _to(self, state: State, start: Tensor, after: Tensor, denoised: Tensor) -> Tensor:
        sigma = state.sigma
        alpha, alpha_after = state.alpha(sigma), state.alpha(after)
        down, up = ancestral((-start).exp(), (-state.half_log_snr(after)).exp(), self.eta)
        h = -down.log() - start
        x = alpha_after / alpha * (-h).exp() * state.x - alpha_after * torch.expm1(-h) * denoised
        if self.eta == 0 or self.s_noise == 0:
            return x
        return x + alpha_after * path(state, sigma, after) * self.s_noise * up


@dataclass(frozen=True)
class DPMpp2MSDE(Brownian):
    r"""Second order by the answer of the step before: by the midpoint rule, or as Heun's.

    .. math:: + \alpha_{i+1} c \, \tfrac{h_i}{h_{i-1}} (D_i - D_{i-1}), \qquad
              c = \tfrac{1}{2} (1 - e^{-(1 + \eta) h}) \; \text{or} \; 1 + \frac{e^{-(1 + \eta) h} - 1}{(1 + \eta) h}
    """

    solver_type: Literal["midpoint", "heun"] = "midpoint"
    eta: float = 1.0
    s_noise: float = 1.0

    def step(self, state: State, denoise: Denoise) -> State:
        denoised = denoise(state.x, state.sigma)
        if state.after == 0:
            return state.stepped(denoised)
        h, alpha = state.log_step(), state.alpha(state.after)
        scaled = h * (self.eta + 1)
        x = _first_order(state, denoised, h, self.eta)
        if state.history:
            slope = alpha * (denoised - state.history[-1]) * h / state.log_step(1)
            x = x + (phi_2(scaled) if self.solver_type == "heun" else -torch.expm1(-scaled) / 2) * slope
        return state.stepped(_noised(state, x, h, self.eta, self.s_noise), (denoised,))


@dataclass(frozen=True)
class DPMpp3MSDE(Brownian):
    r"""Third order by the answers of the two steps before: with their first and second divided differences d and b,

    .. math:: + \alpha_{i+1} \left(\phi_2 d - \phi_3 b\right), \qquad
              \phi_2 = 1 + \frac{e^{-\bar h} - 1}{\bar h}, \quad \phi_3 = \frac{\phi_2}{\bar h} - \tfrac{1}{2}, \quad
              \bar h = (1 + \eta) h
    """

    eta: float = 1.0
    s_noise: float = 1.0

    def step(self, state: State, denoise: Denoise) -> State:
        denoised = denoise(state.x, state.sigma)
        history = (*state.history[-1:], denoised)
        if state.after == 0:
            return state.stepped(denoised)
        h, alpha = state.log_step(), state.alpha(state.after)
        scaled = h * (self.eta + 1)
        x = _first_order(state, denoised, h, self.eta)
        if state.history:
            last = state.log_step(1) / h
            slope = (denoised - state.history[-1]) / last
            if len(state.history) == 1:
                x = x + alpha * phi_2(scaled) * slope
            else:
                before = state.log_step(2) / h
                bend = (slope - (state.history[-1] - state.history[-2]) / before) / (last + before)
                phi_3 = phi_2(scaled) / scaled - 0.5
                x = x + alpha * (phi_2(scaled) * (slope + bend * last) - phi_3 * bend)
        return state.stepped(_noised(state, x, h, self.eta, self.s_noise), history)


def phi_2(h: Tensor) -> Tensor:
    r""":math:`1 + (e^{-h} - 1) / h`"""
    return torch.expm1(-h) / h + 1


def _first_order(state: State, denoised: Tensor, h: Tensor, eta: float) -> Tensor:
    kept = state.after / state.sigma * (-h * eta).exp()
    return kept * state.x - state.alpha(state.after) * torch.expm1(-h * (eta + 1)) * denoised


def _noised(state: State, x: Tensor, h: Tensor, eta: float, s_noise: float) -> Tensor:
    if eta == 0 or s_noise == 0:
        return x
    deviation = state.after * (-torch.expm1(-2 * h * eta)).sqrt() * s_noise
    return x + path(state, state.sigma, state.after) * deviation
