"""DPM-Solver++ on the diffusion SDE (arXiv 2211.01095, section 5): every step adds noise, which is one Brownian path.

The path is a function of the seed and the noise levels alone, so that more steps, or other ones, refine the same picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .stepper import Denoise, State, ancestral


class Brownian:
    """A stepper whose noise is the seed's Brownian path; the seed is the state's `rng`."""

    def begin(self, x: Tensor, sigmas: Tensor, seed: int) -> State:
        return State(x, sigmas, rng=torch.tensor(list(seed.to_bytes(8, "little")), dtype=torch.uint8))


def path(state: State, sigma: Tensor, after: Tensor) -> Tensor:
    """The path's increment from one noise level down to another, of variance 1; the shape of x."""
    from torchsde import BrownianTree

    assert state.rng is not None
    seed = int.from_bytes(bytes(state.rng.tolist()), "little")
    # The tree tells levels apart by six digits, and warns of an end that is not rounded to them.
    levels = (*state.sigmas[state.sigmas > 0].aminmax(), after, sigma)
    low, high, start, end = (round(float(level), 6) for level in levels)
    tree = BrownianTree(low, torch.zeros(state.x.shape, dtype=state.x.dtype), high, entropy=seed)
    return -(tree(start, end) / (sigma - after).sqrt()).to(state.x.device)


class DPMppSDE(Brownian):
    """Two model calls a step, the second at half of it in log sigma."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        t = -sigma.log()
        middle = (-(t + (-after.log() - t) / 2)).exp()  # in this order: the path feels the last digit
        half = self._to(state, middle, denoised)
        return state.stepped(self._to(state, after, denoise(half, middle)))

    @staticmethod
    def _to(state: State, after: Tensor, denoised: Tensor) -> Tensor:
        sigma = state.sigma
        down, up = ancestral(sigma, after)
        return down / sigma * state.x + (1 - down / sigma) * denoised + up * path(state, sigma, after)


class DPMpp2MSDE(Brownian):
    """Second order by the answer of the step before: by the midpoint rule, or as Heun's."""

    def __init__(self, heun: bool = False) -> None:
        self._heun = heun

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        h = state.log_step()
        x = _first_order(state.x, denoised, h)
        if state.history:
            slope = (denoised - state.history[-1]) * h / state.log_step(1)
            x = x + (_phi_2(2 * h) if self._heun else -torch.expm1(-2 * h) / 2) * slope
        x = x + after * (-torch.expm1(-2 * h)).sqrt() * path(state, sigma, after)
        return state.stepped(x, (denoised,))


class DPMpp3MSDE(Brownian):
    """Third order by the answers of the two steps before."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        history = (*state.history[-1:], denoised)
        if after == 0:
            return state.stepped(denoised)
        h = state.log_step()
        x = _first_order(state.x, denoised, h)
        if state.history:
            last = state.log_step(1) / h
            slope = (denoised - state.history[-1]) / last
            if len(state.history) == 1:
                x = x + _phi_2(2 * h) * slope
            else:
                before = state.log_step(2) / h
                bend = (slope - (state.history[-1] - state.history[-2]) / before) / (last + before)
                x = x + _phi_2(2 * h) * (slope + bend * last) - (_phi_2(2 * h) / (2 * h) - 0.5) * bend
        x = x + after * (-torch.expm1(-2 * h)).sqrt() * path(state, sigma, after)
        return state.stepped(x, history)


def _first_order(x: Tensor, denoised: Tensor, h: Tensor) -> Tensor:
    return (-2 * h).exp() * x - torch.expm1(-2 * h) * denoised


def _phi_2(h: Tensor) -> Tensor:
    return torch.expm1(-h) / h + 1
