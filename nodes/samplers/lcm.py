"""Steps of models that answer with the clean latent at once."""

from __future__ import annotations

from dataclasses import dataclass

from .stepper import Denoise, State, Stochastic, draw

__all__ = ["LCM"]


@dataclass(frozen=True)
class LCM(Stochastic):
    r"""Multistep consistency sampling (arXiv 2303.01469, algorithm 1): the answer, with fresh noise up to the next
    level.

    .. math:: x_{i+1} = \alpha_{i+1} D(x_i, \sigma_i) + \sigma_{i+1} s_i \, n

    The factor s of the noise goes evenly from `s_noise` at the first step to `s_noise_end` at the last; the noise is
    clamped to `noise_clip_std` of its own deviations (0: not at all).
    """

    s_noise: float = 1.0
    s_noise_end: float = 1.0
    noise_clip_std: float = 0.0

    def step(self, state: State, denoise: Denoise) -> State:
        after = state.after
        denoised = denoise(state.x, state.sigma)
        if after == 0:
            return state.stepped(denoised)
        noise, rng = draw(state)
        if self.noise_clip_std > 0:
            bound = float(noise.std()) * self.noise_clip_std
            noise = noise.clamp(-bound, bound)
        if (self.s_noise, self.s_noise_end) != (1.0, 1.0):
            share = state.index / max(len(state.sigmas) - 2, 1)
            noise = noise * (self.s_noise + (self.s_noise_end - self.s_noise) * share)
        return state.stepped(state.alpha(after) * denoised + after * noise, rng=rng)
