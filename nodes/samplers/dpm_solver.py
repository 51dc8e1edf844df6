r"""DPM-Solver of orders 1 to 3 over a stretch of noise levels: with steps of its own, even or by the error.

With :math:`t = -\ln \sigma`, :math:`h = \Delta t` and the noise :math:`\epsilon(x, t) = (x - D) / \sigma` the step of
order 3 (arXiv 2206.00927, algorithm 2) from t to t + h is

.. math::
    u_1 &= x - \sigma_1 (e^{r_1 h} - 1) \epsilon, \qquad r_1 = \tfrac{1}{3}, r_2 = \tfrac{2}{3} \\
    u_2 &= x - \sigma_2 (e^{r_2 h} - 1) \epsilon
           - \sigma_2 \tfrac{r_2}{r_1} \left(\tfrac{e^{r_2 h} - 1}{r_2 h} - 1\right) (\epsilon_1 - \epsilon) \\
    x' &= x - \sigma' (e^h - 1) \epsilon - \tfrac{\sigma'}{r_2} \left(\tfrac{e^h - 1}{h} - 1\right) (\epsilon_2 -
    \epsilon)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .stepper import Denoise, State, Stochastic, ancestral, draw, is_flow

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["DPMAdaptive", "DPMFast"]


class _NoiseAnswers:
    """The noise that a denoiser sees, at times t; the answers of one step are kept."""

    def __init__(self, denoise: Denoise) -> None:
        self._denoise = denoise
        self._kept: dict[str, Tensor] = {}

    def eps(self, name: str, x: Tensor, t: Tensor) -> Tensor:
        if name not in self._kept:
            sigma = (-t).exp()
            self._kept[name] = (x - self._denoise(x, sigma)) / sigma
        return self._kept[name]

    def order_1(self, x: Tensor, t: Tensor, end: Tensor) -> Tensor:
        return x - (-end).exp() * torch.expm1(end - t) * self.eps("eps", x, t)

    def order_2(self, x: Tensor, t: Tensor, end: Tensor, r1: float = 1 / 2) -> Tensor:
        h, eps = end - t, self.eps("eps", x, t)
        s1 = t + r1 * h
        u1 = x - (-s1).exp() * torch.expm1(r1 * h) * eps
        eps_1 = self.eps(f"eps_{r1}", u1, s1)
        return x - (-end).exp() * torch.expm1(h) * eps - (-end).exp() / (2 * r1) * torch.expm1(h) * (eps_1 - eps)

    def order_3(self, x: Tensor, t: Tensor, end: Tensor, r1: float = 1 / 3, r2: float = 2 / 3) -> Tensor:
        h, eps = end - t, self.eps("eps", x, t)
        s1, s2 = t + r1 * h, t + r2 * h
        u1 = x - (-s1).exp() * torch.expm1(r1 * h) * eps
        bend = self.eps(f"eps_{r1}", u1, s1) - eps
        u2 = x - (-s2).exp() * torch.expm1(r2 * h) * eps
        u2 = u2 - (-s2).exp() * (r2 / r1) * (torch.expm1(r2 * h) / (r2 * h) - 1) * bend
        bend = self.eps(f"eps_{r1}_{r2}", u2, s2) - eps
        x = x - (-end).exp() * torch.expm1(h) * eps
        return x - (-end).exp() / r2 * (torch.expm1(h) / h - 1) * bend


def _stretch(sigmas: Tensor) -> Tensor:
    """The first and the last level; for a last one of 0, which has no logarithm, the one before it."""
    last = sigmas[-2] if sigmas[-1] == 0 else sigmas[-1]
    return torch.stack([sigmas[0], last])


@dataclass(frozen=True)
class DPMFast(Stochastic):
    """DPM-Solver-fast (arXiv 2206.00927, section 3.4): as many model calls as there are steps, in even steps of order 3
    in log sigma, the last of lower orders. With `eta` each goes down to a lower level, then fresh noise up."""

    eta: float = 0.0
    s_noise: float = 1.0

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        calls = len(sigmas) - 1
        start, end = (-_stretch(sigmas).log()).tolist()
        levels = (-torch.linspace(start, end, calls // 3 + 2)).exp()
        rng = torch.Generator().manual_seed(seed).get_state()
        return State(x, levels, rng=rng, flow=is_flow(prediction), numbers=(start, end, float(calls)))

    def step(self, state: State, denoise: Denoise) -> State:
        start, end, calls = state.numbers
        grid = torch.linspace(start, end, len(state.sigmas))
        left = len(state.sigmas) - 2 - state.index  # steps after this one
        rest = int(calls) % 3
        order = ([1, 2][left] if left < 2 else 3) if rest == 0 else (rest if left == 0 else 3)
        t, t_next = grid[state.index], grid[state.index + 1]
        goal, up = t_next, torch.zeros(())
        if self.eta:
            down, _ = ancestral((-t).exp(), (-t_next).exp(), self.eta)
            goal = (-down.log()).clamp(max=end)
            up = ((-t_next).exp() ** 2 - (-goal).exp() ** 2).clamp(min=0).sqrt()
        asked = _NoiseAnswers(denoise)
        x = (asked.order_1, asked.order_2, asked.order_3)[order - 1](state.x, t, goal)
        if not self.eta:
            return state.stepped(x)
        noise, rng = draw(state)
        return state.stepped(x + up * self.s_noise * noise, rng=rng)


@dataclass(frozen=True)
class DPMAdaptive(Stochastic):
    r"""DPM-Solver-12 or -23 with steps by the error (arXiv 2206.00927, appendix C), sized by a PID controller.

    A step is taken where
    :math:`e = \| (x_{low} - x_{high}) / \max(atol, rtol \max(|x_{low}|, |x_{prev}|)) \| / \sqrt{n}` allows it: with
    :math:`f = 1 + \arctan(e_0^{b_1} e_1^{b_2} e_2^{b_3} - 1)` of the last inverse errors, f >= `accept_safety`; the
    next one is f times as long. One step of the stepper is one step that was taken.
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    pcoeff: float = 0.0
    icoeff: float = 1.0
    dcoeff: float = 0.0
    accept_safety: float = 0.81
    eta: float = 0.0
    s_noise: float = 1.0

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        rng = torch.Generator().manual_seed(seed).get_state()
        ends = _stretch(sigmas)
        start = float(-ends[0].log())
        return State(x, ends, 0, (x,), rng, is_flow(prediction), (start, abs(self.h_init)))

    def step(self, state: State, denoise: Denoise) -> State:
        s, h, *errors = state.numbers
        end = float(-state.sigmas[-1].log())
        exponent = 1.5 if self.eta else float(self.order)
        powers = (
            (self.pcoeff + self.icoeff + self.dcoeff) / exponent,
            -(self.pcoeff + 2 * self.dcoeff) / exponent,
            self.dcoeff / exponent,
        )
        asked = _NoiseAnswers(denoise)
        while True:
            t, t_next = torch.tensor(s), torch.tensor(min(end, s + h))
            goal, up = t_next, torch.zeros(())
            if self.eta:
                down, _ = ancestral((-t).exp(), (-t_next).exp(), self.eta)
                goal = (-down.log()).clamp(max=end)
                up = ((-t_next).exp() ** 2 - (-goal).exp() ** 2).clamp(min=0).sqrt()
            first = _NoiseAnswers(denoise)
            first._kept = {name: eps for name, eps in asked._kept.items() if name == "eps"}
            asked = first
            if self.order == 2:
                low, high = asked.order_1(state.x, t, goal), asked.order_2(state.x, t, goal)
            else:
                low, high = asked.order_2(state.x, t, goal, r1=1 / 3), asked.order_3(state.x, t, goal)
            scale = torch.maximum(low.abs(), state.history[0].abs()).mul(self.rtol).clamp(min=self.atol)
            error = float(torch.linalg.norm((low - high) / scale)) / state.x.numel() ** 0.5
            inverse = 1 / (error + 1e-8)
            known = [inverse, *errors[1:]] if errors else [inverse] * 3
            factor = 1 + math.atan(math.prod(e**b for e, b in zip(known, powers, strict=True)) - 1)
            h *= factor
            if factor >= self.accept_safety:
                break
            errors = known
        noise, rng = draw(state) if self.eta else (torch.zeros(()), state.rng)
        done = float(t_next) >= end - 1e-5
        numbers = (float(t_next), h, known[0], known[0], known[1])
        x = high + up * self.s_noise * noise
        return replace(state, x=x, index=int(done), history=(low,), rng=rng, numbers=numbers)
