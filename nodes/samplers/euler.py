r"""Euler and Heun steps on the probability flow.

.. math:: \frac{dx}{d\sigma} = \frac{x - D(x, \sigma)}{\sigma}
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, ancestral_flow, under_noise

__all__ = ["DDIM", "Euler", "EulerAncestral", "Heun", "HeunPP2"]


@dataclass(frozen=True)
class Euler(Deterministic):
    r"""One Euler step (EDM, arXiv 2206.00364, algorithm 1 without correction).

    .. math:: x_{i+1} = x_i + (\sigma_{i+1} - \sigma_i) \, (x_i - D(x_i, \sigma_i)) / \sigma_i

    One model call a step.
    """

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        slope = (state.x - denoise(state.x, sigma)) / sigma
        return state.stepped(state.x + slope * (after - sigma))


@dataclass(frozen=True)
class DDIM(Euler):
    """DDIM (arXiv 2010.02502, equation 13) is Euler's step in x divided by alpha. What a noise mask keeps is under
    noise of its own, drawn from the next seed (see `noise.kept_noise`)."""


@dataclass(frozen=True)
class EulerAncestral(Stochastic):
    r"""Euler down to a lower level, then fresh noise up; `eta` is the share of noise, `s_noise` a factor of it.

    .. math:: x_{i+1} = x_i + (down - \sigma_i) \, (x_i - D) / \sigma_i + up \, n

    For flow with `down`, `up` and a factor of `ancestral_flow`:
    :math:`x_{i+1} = factor (\tfrac{down}{\sigma_i} x_i + (1 - \tfrac{down}{\sigma_i}) D) + up \, n`.
    """

    eta: float = 1.0
    s_noise: float = 1.0

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        if after == 0:
            return state.stepped(denoise(state.x, sigma))
        if state.flow:
            down, factor, up = ancestral_flow(sigma, after, self.eta)
            x = down / sigma * state.x + (1 - down / sigma) * denoise(state.x, sigma, down)
            return under_noise(state, factor * x, up * self.s_noise) if self.eta > 0 else state.stepped(x)
        down, up = ancestral(sigma, after, self.eta)
        slope = (state.x - denoise(state.x, sigma, down)) / sigma
        return under_noise(state, state.x + slope * (down - sigma), up * self.s_noise)


@dataclass(frozen=True)
class Heun(Deterministic):
    r"""EDM (arXiv 2206.00364), algorithm 1: the mean of the slopes at both ends of the step. Two model calls a step.

    .. math:: x' = x_i + h d_i, \quad x_{i+1} = x_i + h \, (d_i + d(x', \sigma_{i+1})) / 2, \quad
              d(x, \sigma) = (x - D(x, \sigma)) / \sigma
    """

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        slope = (state.x - denoise(state.x, sigma)) / sigma
        x = state.x + slope * (after - sigma)
        if after > 0:
            slope = (slope + (x - denoise(x, after)) / after) / 2
            x = state.x + slope * (after - sigma)
        return state.stepped(x)


@dataclass(frozen=True)
class HeunPP2(Deterministic):
    r"""Heun++: the slopes at the ends of this step and of the next, weighted by their levels. Three model calls a step.

    .. math:: x_{i+1} = x_i + h \left((1 - w_1 - w_2) d_i + w_1 d_{i+1} + w_2 d_{i+2}\right), \quad
              w_k = \frac{\sigma_{i+k}}{3 \sigma_0}

    The last step but one has two slopes (and :math:`2 \sigma_0`), the last is Euler's.
    """

    def step(self, state: State, denoise: Denoise) -> State:
        ahead = state.sigmas[state.index + 1 : state.index + 3]
        ahead = ahead[ahead > 0]
        slopes, x, at = [], state.x, state.sigma
        for level in [*ahead, None]:
            slopes.append((x - denoise(x, at)) / at)
            if level is not None:
                x, at = x + slopes[-1] * (level - at), level
        shares = [level / ((len(ahead) + 1) * state.sigmas[0]) for level in ahead]
        slope: Tensor = slopes[0] * (1 - sum(shares))
        for share, further in zip(shares, slopes[1:], strict=True):
            slope = slope + share * further
        return state.stepped(state.x + slope * (state.after - state.sigma))
