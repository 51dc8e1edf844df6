"""Steps of models that answer with the clean latent at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.prediction import Prediction
from ..resampling import resize
from .stepper import Denoise, State, Stochastic, draw

__all__ = ["LCM", "LCMUpscale"]


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


@dataclass(frozen=True)
class LCMUpscale(Stochastic):
    r"""The same, with an answer that grows after each of the first steps, evenly to `scale` times its sides.

    .. math:: x_{i+1} = \alpha_{i+1} U_i(D(x_i, \sigma_i)) + \sigma_{i+1} \, n

    Its noise is what the generator of the run's seed gives after the noise of the start. U resamples to the sides of
    the first latent times :math:`1 + (s - 1)(i + 1) / m` for the first m steps. With `steps` of -1, m is half the
    number of levels; more steps than the run has count as all of its steps.
    """

    scale: float = 1.0
    steps: int = -1
    method: str = "bislerp"

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        if x.dim() != 4:
            raise GraphFlowError([Problem("wrong_latent", "SamplerLCMUpscale enlarges images, not videos")])
        state = Stochastic.begin(self, x, sigmas, seed, prediction)
        _, rng = draw(state)
        return replace(state, rng=rng, numbers=tuple(map(float, x.shape[-2:])))

    def step(self, state: State, denoise: Denoise) -> State:
        denoised = denoise(state.x, state.sigma)
        growing = min(self.steps, len(state.sigmas)) if self.steps >= 0 else max(len(state.sigmas) // 2, 1)
        if state.index < growing:
            factor = 1.0 + (self.scale - 1.0) * (state.index + 1) / growing
            height, width = (max(1, round(side * factor)) for side in state.numbers)
            denoised = resize(denoised.cpu(), width, height, self.method).to(denoised.device)
        if state.after == 0:
            return state.stepped(denoised)
        noise, rng = draw(replace(state, x=denoised))
        return state.stepped(state.alpha(state.after) * denoised + state.after * noise, rng=rng)
