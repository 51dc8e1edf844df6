r"""CFG++ (arXiv 2406.08070): the step goes down from the guided answer, along the noise of the unguided one.

.. math:: x_{i+1} = \hat D_i + \sigma_{i+1} \, (x_i - D^-_i) / \sigma_i

:math:`\hat D` is the guided answer, :math:`D^-` that of the negative side, which is asked whatever the weight of
guidance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .stepper import Denoise, Deterministic, State, Stochastic, ancestral, draw, under_noise, unguided

__all__ = ["DPMpp2MCFGpp", "DPMpp2SAncestralCFGpp", "EulerAncestralCFGpp", "EulerCFGpp", "EulerPP"]


@dataclass(frozen=True)
class EulerAncestralCFGpp(Stochastic):
    r"""Euler with CFG++ in x divided by :math:`\alpha`, down to a lower level, then fresh noise up.

    .. math:: x_{i+1} = \alpha_{i+1} \hat D + \alpha_{i+1} down \, \frac{x_i - \alpha_i D^-}{\sigma_i} + \alpha_{i+1} up
    \, n
    """

    eta: float = 1.0
    s_noise: float = 1.0

    @property
    def needs_negative(self) -> bool:
        return True

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        if after == 0:
            return state.stepped(denoise(state.x, sigma))
        alpha, alpha_after = state.alpha(sigma), state.alpha(after)
        down, up = ancestral(sigma / alpha, after / alpha_after, self.eta)
        answer = denoise.answer(state.x, sigma, alpha_after * down)
        slope = (state.x - alpha * unguided(answer)) / sigma
        x = alpha_after * answer.guided + alpha_after * down * slope
        if self.eta == 0 or self.s_noise == 0:
            return state.stepped(x)
        return under_noise(state, x, alpha_after * up * self.s_noise)


@dataclass(frozen=True)
class EulerCFGpp(EulerAncestralCFGpp):
    """The same without noise."""

    eta: float = 0.0


@dataclass(frozen=True)
class EulerPP(Deterministic):
    r"""Euler's step whose slope starts from the unguided answer in place of the guided one.

    .. math:: x_{i+1} = x_i + (\sigma_{i+1} - \sigma_i) \, (x_i - \hat D_i + D^-_i - \hat D_i) / \sigma_i
    """

    @property
    def needs_negative(self) -> bool:
        return True

    def step(self, state: State, denoise: Denoise) -> State:
        answer = denoise.answer(state.x, state.sigma)
        slope = (state.x - answer.guided + unguided(answer) - answer.guided) / state.sigma
        return state.stepped(state.x + slope * (state.after - state.sigma))


@dataclass(frozen=True)
class DPMpp2SAncestralCFGpp(Stochastic):
    r"""DPM-Solver++(2S) from :math:`x + \hat D - D^-`, down to a lower level, then fresh noise up. :math:`D^-` is the
    unguided answer to the latest question: in the second half of a step, to the one at its middle. This is ComfyUI's
    rule; it does not converge to the probability flow, even without guidance."""

    eta: float = 1.0
    s_noise: float = 1.0

    @property
    def needs_negative(self) -> bool:
        return True

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        down, up = ancestral(sigma, after, self.eta)
        answer = denoise.answer(state.x, sigma, down)
        if down == 0:
            x = answer.guided + (state.x - unguided(answer)) / sigma * down
        else:
            h = (sigma / down).log()
            middle = sigma * (-h / 2).exp()
            start = state.x + (answer.guided - unguided(answer))
            half = middle / sigma * start - torch.expm1(-h / 2) * answer.guided
            second = denoise.answer(half, middle, down)
            start = state.x + (answer.guided - unguided(second))
            x = down / sigma * start - torch.expm1(-h) * second.guided
        if after == 0:
            return state.stepped(x)
        noise, rng = draw(state)
        return state.stepped(x + noise * self.s_noise * up, rng=rng)


@dataclass(frozen=True)
class DPMpp2MCFGpp(Deterministic):
    r"""DPM-Solver++(2M) with CFG++.

    .. math:: x_{i+1} = \hat D_i + e^{-h_i} (x_i - D^-_i) + (1 - e^{-h_i}) \tfrac{h_i}{2 h_{i-1}} (\hat D_i - D^-_{i-1})
    """

    @property
    def needs_negative(self) -> bool:
        return True

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        answer = denoise.answer(state.x, sigma)
        without = unguided(answer)
        if after == 0:
            return state.stepped(answer.guided, (without,))
        h = (sigma / after).log()
        x = answer.guided + (-h).exp() * (state.x - without)
        if state.history:
            ratio = (state.sigmas[state.index - 1] / sigma).log() / h
            x = x - torch.expm1(-h) / (2 * ratio) * (answer.guided - state.history[-1])
        return state.stepped(x, (without,))
