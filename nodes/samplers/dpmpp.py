"""DPM-Solver++ steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, ancestral_flow, under_noise

__all__ = ["DPMpp2M", "DPMpp2SAncestral"]


@dataclass(frozen=True)
class DPMpp2M(Deterministic):
    r"""DPM-Solver++(2M) (arXiv 2211.01095), algorithm 2, with :math:`\lambda = -\ln \sigma`,
    :math:`h = \Delta \lambda`.

    .. math:: x_{i+1} = \tfrac{\sigma_{i+1}}{\sigma_i} x_i + (1 - e^{-h_i})
              \left(D_i + \tfrac{h_i}{2 h_{i-1}} (D_i - D_{i-1})\right)
    """

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        h = (sigma / after).log()
        target = denoised
        if state.history:
            ratio = (state.sigmas[state.index - 1] / sigma).log() / h
            target = denoised + (denoised - state.history[-1]) / (2 * ratio)
        x = after / sigma * state.x - torch.expm1(-h) * target
        return state.stepped(x, (denoised,))


@dataclass(frozen=True)
class DPMpp2SAncestral(Stochastic):
    r"""DPM-Solver++(2S) (arXiv 2211.01095), algorithm 1 with r = 1/2, down to a lower level, then fresh noise up.

    .. math:: x_m = \tfrac{\sigma_m}{\sigma_i} x_i + (1 - e^{-h/2}) D(x_i, \sigma_i), \quad
              x_{i+1} = \tfrac{down}{\sigma_i} x_i + (1 - e^{-h}) D(x_m, \sigma_m) + up \, n

    For flow the middle is that of :math:`\lambda = \ln((1 - \sigma) / \sigma)`, and both steps are Euler's between
    levels.
    """

    eta: float = 1.0
    s_noise: float = 1.0

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        if state.flow:
            down, factor, up = ancestral_flow(sigma, after, self.eta)
            here, there = state.half_log_snr(sigma), state.half_log_snr(down)
            middle = sigma.new_tensor(0.9999) if sigma == 1 else state.level(here + (there - here) / 2)
            half = middle / sigma * state.x + (1 - middle / sigma) * denoised
            x = down / sigma * state.x + (1 - down / sigma) * denoise(half, middle, after)
            return under_noise(state, factor * x, up * self.s_noise) if self.eta > 0 else state.stepped(x)
        down, up = ancestral(sigma, after, self.eta)
        if down == 0:
            return under_noise(state, denoised, up * self.s_noise)
        h = (sigma / down).log()
        middle = sigma * (-h / 2).exp()
        x = middle / sigma * state.x - torch.expm1(-h / 2) * denoised
        x = down / sigma * state.x - torch.expm1(-h) * denoise(x, middle, after)
        return under_noise(state, x, up * self.s_noise)
