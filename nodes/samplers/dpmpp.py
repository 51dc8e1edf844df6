"""DPM-Solver++ steps."""

from __future__ import annotations

import torch

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, under_noise


class DPMpp2M(Deterministic):
    """DPM-Solver++(2M) (arXiv 2211.01095), algorithm 2, with lambda = -log sigma."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        h = state.log_step()
        target = denoised
        if state.history:
            ratio = state.log_step(1) / h
            target = denoised + (denoised - state.history[-1]) / (2 * ratio)
        x = after / sigma * state.x - torch.expm1(-h) * target
        return state.stepped(x, (denoised,))


class DPMpp2SAncestral(Stochastic):
    """DPM-Solver++(2S) (arXiv 2211.01095), algorithm 1 with r = 1/2, down to a lower sigma, then fresh noise up."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        down, up = ancestral(sigma, after)
        h = (sigma / down).log()
        middle = sigma * (-h / 2).exp()
        x = middle / sigma * state.x - torch.expm1(-h / 2) * denoised
        x = down / sigma * state.x - torch.expm1(-h) * denoise(x, middle)
        return under_noise(state, x, up)
