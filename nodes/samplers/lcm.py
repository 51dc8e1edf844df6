"""Steps of models that answer with the picture at once."""

from __future__ import annotations

from .stepper import Denoise, State, Stochastic, under_noise


class LCM(Stochastic):
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1): the answer, with fresh noise up to the next sigma."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        return under_noise(state, denoised, after)
