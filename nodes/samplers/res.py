"""RES: exponential integrators with a memory of one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .stepper import Denoise, State, Stochastic, ancestral, under_noise, unguided

__all__ = ["RESMultistep", "RESMultistepAncestral"]


@dataclass(frozen=True)
class RESMultistepAncestral(Stochastic):
    r"""The second-order multistep integrator of RES (arXiv 2308.02157, section 3.2), down to a lower level, then noise.

    .. math:: x_{i+1} = e^{-h} x_i + h (b_1 D_i + b_2 D_{i-1}) + up \, n, \quad
              b_2 = \phi_2(-h) / c_2, \quad b_1 = \phi_1(-h) - b_2, \quad c_2 = (\lambda_{i-1} - \lambda'_{i}) / h

    :math:`\lambda = -\ln \sigma`; :math:`h` leads to the lower level, :math:`\lambda'_i` is the one the step before led
    to. With `cfg_pp` the unguided answer is what is remembered and gives the direction (CFG++, arXiv 2406.08070).
    """

    eta: float = 1.0
    s_noise: float = 1.0
    cfg_pp: bool = False

    @property
    def needs_negative(self) -> bool:
        return self.cfg_pp

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        down, up = ancestral(sigma, after, self.eta)
        answer = denoise.answer(state.x, sigma, down) if self.cfg_pp else None
        denoised = denoise(state.x, sigma, down) if answer is None else answer.guided
        kept = denoised if answer is None else unguided(answer)
        if down == 0 or not state.history:
            x = denoised + (state.x - kept) / sigma * down
        else:
            last, reached = state.history
            h = (sigma / down).log()
            c2 = (reached.log() - state.sigmas[state.index - 1].log()) / h
            phi_1 = torch.expm1(-h) / -h
            phi_2 = (phi_1 - 1) / -h
            b1, b2 = (phi_1 - phi_2 / c2).nan_to_num(nan=0.0), (phi_2 / c2).nan_to_num(nan=0.0)
            x = (-h).exp() * (state.x + (denoised - kept)) + h * (b1 * kept + b2 * last)
        history: tuple[Tensor, ...] = (kept, down)
        if after == 0 or self.eta == 0:
            return state.stepped(x, history)
        return under_noise(state, x, up * self.s_noise, history)


@dataclass(frozen=True)
class RESMultistep(RESMultistepAncestral):
    """The same without noise."""

    eta: float = 0.0
