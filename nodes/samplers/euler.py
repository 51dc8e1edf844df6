"""Euler and Heun steps on the probability flow dx/dsigma = (x - D(x, sigma)) / sigma."""

from __future__ import annotations

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, under_noise


class Euler(Deterministic):
    """EDM (arXiv 2206.00364), algorithm 1 without correction; equals DDIM (arXiv 2010.02502), equation 13."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        slope = (state.x - denoise(state.x, sigma)) / sigma
        return state.stepped(state.x + slope * (after - sigma))


class EulerAncestral(Stochastic):
    """Euler down to a lower sigma, then fresh noise up."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        down, up = ancestral(sigma, after)
        return under_noise(state, state.x + (state.x - denoised) / sigma * (down - sigma), up)


class Heun(Deterministic):
    """EDM (arXiv 2206.00364), algorithm 1: the mean of the slopes at both ends of the step."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        slope = (state.x - denoise(state.x, sigma)) / sigma
        x = state.x + slope * (after - sigma)
        if after > 0:
            slope = (slope + (x - denoise(x, after)) / after) / 2
            x = state.x + slope * (after - sigma)
        return state.stepped(x)
