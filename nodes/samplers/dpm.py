"""DPM-Solver-2 on the probability flow: the slope at the middle of a step, in log sigma."""

from __future__ import annotations

from torch import Tensor

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, under_noise


def _down(x: Tensor, sigma: Tensor, after: Tensor, denoise: Denoise) -> Tensor:
    """DPM-Solver-2 (arXiv 2206.00927), algorithm 1 with r = 1/2; Euler to the last sigma, which has no logarithm."""
    slope = (x - denoise(x, sigma)) / sigma
    if after > 0:
        middle = (sigma * after).sqrt()
        half = x + slope * (middle - sigma)
        slope = (half - denoise(half, middle)) / middle
    return x + slope * (after - sigma)


class DPM2(Deterministic):
    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        return state.stepped(_down(state.x, sigma, after, denoise))


class DPM2Ancestral(Stochastic):
    """Down to a lower sigma, then fresh noise up."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        down, up = ancestral(sigma, after)
        x = _down(state.x, sigma, down, denoise)
        if after == 0:
            return state.stepped(x)
        return under_noise(state, x, up)
