"""The ancestral sampler of DDPM."""

from __future__ import annotations

from .stepper import Denoise, State, Stochastic, draw


class DDPM(Stochastic):
    """DDPM (arXiv 2006.11239), equations 7 and 11, with a = 1 / (1 + sigma^2) and x_t = sqrt(a) x."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        a, a_after = 1 / (1 + sigma**2), 1 / (1 + after**2)
        alpha = a / a_after
        eps = (state.x - denoise(state.x, sigma)) / sigma
        mean = (state.x * a.sqrt() - (1 - alpha) * eps / (1 - a).sqrt()) / alpha.sqrt()
        if after == 0:
            return state.stepped(mean)
        noise, rng = draw(state)
        x = mean + ((1 - alpha) * (1 - a_after) / (1 - a)).sqrt() * noise
        return state.stepped(x / a_after.sqrt(), rng=rng)
