"""DPM-Solver++ steps."""

from __future__ import annotations

from dataclasses import replace

import torch

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, draw


class DPMpp2M(Deterministic):
    """DPM-Solver++(2M) (arXiv 2211.01095), algorithm 2, with lambda = -log sigma."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1, history=(denoised,))
        h = (sigma / after).log()
        target = denoised
        if state.history:
            ratio = (state.sigmas[state.index - 1] / sigma).log() / h
            target = denoised + (denoised - state.history[-1]) / (2 * ratio)
        x = after / sigma * state.x - torch.expm1(-h) * target
        return replace(state, x=x, index=state.index + 1, history=(denoised,))


class DPMpp2SAncestral(Stochastic):
    """DPM-Solver++(2S) (arXiv 2211.01095), algorithm 1 with r = 1/2, down to a lower sigma, then fresh noise up."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1)
        down, up = ancestral(sigma, after)
        h = (sigma / down).log()
        middle = sigma * (-h / 2).exp()
        x = middle / sigma * state.x - torch.expm1(-h / 2) * denoised
        x = down / sigma * state.x - torch.expm1(-h) * denoise(x, middle)
        noise, rng = draw(state)
        return replace(state, x=x + noise * up, index=state.index + 1, rng=rng)
