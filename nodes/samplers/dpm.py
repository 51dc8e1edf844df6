"""DPM-Solver-2 on the probability flow: the slope at the middle of a step, in log sigma."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, ancestral_flow, under_noise

__all__ = ["DPM2", "DPM2Ancestral"]


@dataclass(frozen=True)
class DPM2(Deterministic):
    r"""DPM-Solver-2 (arXiv 2206.00927), algorithm 1 with r = 1/2. Two model calls a step.

    .. math:: m = \sqrt{\sigma_i \sigma_{i+1}}, \quad x_m = x_i + (m - \sigma_i) d(x_i, \sigma_i), \quad
              x_{i+1} = x_i + (\sigma_{i+1} - \sigma_i) d(x_m, m)

    The step to 0, which has no logarithm, is Euler's.
    """

    def step(self, state: State, denoise: Denoise) -> State:
        return state.stepped(_down(state.x, state.sigma, state.after, denoise))


@dataclass(frozen=True)
class DPM2Ancestral(Stochastic):
    """The same down to a lower level, then fresh noise up (see `ancestral`, `ancestral_flow`)."""

    eta: float = 1.0
    s_noise: float = 1.0

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        if state.flow:
            down, factor, up = ancestral_flow(sigma, after, self.eta)
            x = _down(state.x, sigma, down, denoise)
            return state.stepped(x) if down == 0 else under_noise(state, factor * x, up * self.s_noise)
        down, up = ancestral(sigma, after, self.eta)
        x = _down(state.x, sigma, down, denoise)
        return state.stepped(x) if after == 0 else under_noise(state, x, up * self.s_noise)


def _down(x: Tensor, sigma: Tensor, after: Tensor, denoise: Denoise) -> Tensor:
    slope = (x - denoise(x, sigma, after)) / sigma
    if after > 0:
        middle = (sigma * after).sqrt()
        half = x + slope * (middle - sigma)
        slope = (half - denoise(half, middle, after)) / middle
    return x + slope * (after - sigma)
