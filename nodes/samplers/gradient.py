"""Gradient estimation: a slope that is corrected by how it changed."""

from __future__ import annotations

from dataclasses import dataclass

from .stepper import Denoise, Deterministic, State, unguided

__all__ = ["GradientEstimation"]


@dataclass(frozen=True)
class GradientEstimation(Deterministic):
    r"""Gradient estimation (arXiv 2306.04848), algorithm 2 with :math:`\gamma = 2`.

    .. math:: x_{i+1} = x_i + (\sigma_{i+1} - \sigma_i) (\gamma d_i + (1 - \gamma) d_{i-1}), \quad d = (x - D) / \sigma

    With `cfg_pp` the slope is that of the unguided answer, and the step goes down from the guided one (CFG++).
    """

    gamma: float = 2.0
    cfg_pp: bool = False

    @property
    def needs_negative(self) -> bool:
        return self.cfg_pp

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        answer = denoise.answer(state.x, sigma) if self.cfg_pp else None
        denoised = denoise(state.x, sigma) if answer is None else answer.guided
        slope = (state.x - (denoised if answer is None else unguided(answer))) / sigma
        if after == 0:
            return state.stepped(denoised, (slope,))
        x = state.x + slope * (after - sigma) if answer is None else denoised + slope * after
        if state.history:
            x = x + (self.gamma - 1) * (slope - state.history[-1]) * (after - sigma)
        return state.stepped(x, (slope,))
