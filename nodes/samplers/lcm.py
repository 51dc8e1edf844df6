"""Steps of models that answer with the picture at once."""

from __future__ import annotations

from dataclasses import replace

from .stepper import Denoise, State, Stochastic, draw


class LCM(Stochastic):
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1): the answer, with fresh noise up to the next sigma."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1)
        noise, rng = draw(state)
        return replace(state, x=denoised + after * noise, index=state.index + 1, rng=rng)
