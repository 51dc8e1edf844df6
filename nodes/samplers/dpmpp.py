"""DPM-Solver++ steps."""

from __future__ import annotations

from dataclasses import replace

import torch

from .stepper import Denoise, Deterministic, State


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
