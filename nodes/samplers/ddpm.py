"""The ancestral sampler of DDPM."""

from __future__ import annotations

from dataclasses import dataclass

from .stepper import Denoise, State, Stochastic, draw

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM(Stochastic):
    r"""DDPM (arXiv 2006.11239), equations 7 and 11, with :math:`\bar\alpha = 1 / (1 + \sigma^2)`,
    :math:`\alpha = \bar\alpha_i / \bar\alpha_{i+1}` and :math:`x_t = \sqrt{\bar\alpha} x`.

    .. math:: x_{t-1} = \frac{1}{\sqrt{\alpha}} \left(x_t - \frac{1 - \alpha}{\sqrt{1 - \bar\alpha_i}} \epsilon\right)
              + \sqrt{(1 - \alpha) \frac{1 - \bar\alpha_{i+1}}{1 - \bar\alpha_i}} \, n
    """

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
