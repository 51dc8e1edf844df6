"""Euler and Heun steps on the probability flow dx/dsigma = (x - D(x, sigma)) / sigma."""

from __future__ import annotations

from dataclasses import replace

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, draw


class Euler(Deterministic):
    """EDM (arXiv 2206.00364), algorithm 1 without correction; equals DDIM (arXiv 2010.02502), equation 13."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        slope = (state.x - denoise(state.x, sigma)) / sigma
        return replace(state, x=state.x + slope * (after - sigma), index=state.index + 1)


class EulerAncestral(Stochastic):
    """Euler down to a lower sigma, then fresh noise up."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1)
        down, up = ancestral(sigma, after)
        noise, rng = draw(state)
        x = state.x + (state.x - denoised) / sigma * (down - sigma) + noise * up
        return replace(state, x=x, index=state.index + 1, rng=rng)


class Heun(Deterministic):
    """EDM (arXiv 2206.00364), algorithm 1: the mean of the slopes at both ends of the step."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        slope = (state.x - denoise(state.x, sigma)) / sigma
        x = state.x + slope * (after - sigma)
        if after > 0:
            slope = (slope + (x - denoise(x, after)) / after) / 2
            x = state.x + slope * (after - sigma)
        return replace(state, x=x, index=state.index + 1)
