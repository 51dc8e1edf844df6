r"""SEEDS (arXiv 2305.14267): exponential integrators of the diffusion SDE with two or three model calls a step.

With :math:`\lambda = \ln(\alpha / \sigma)`, :math:`h = \Delta \lambda`, :math:`\bar h = (1 + \eta) h` a stage at the
share r is

.. math:: x_r = \tfrac{\sigma_r}{\sigma_i} e^{-\eta r h} x_i - \alpha_r \sum_j b_j D_j + \sigma_r n_r, \qquad
          \varphi_1 = e^{-r \bar h} - 1, \quad \varphi_2 = \frac{\varphi_1 + r \bar h}{-r \bar h}

The noise of a later stage is that of the one before, faded by :math:`e^{-\eta (r - r') h}`, and fresh noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .stepper import Denoise, State, Stochastic, below_1, draw

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["SEEDS2", "SEEDS3", "ExpHeun"]


@dataclass(frozen=True)
class _Seeds(Stochastic):
    eta: float = 1.0
    s_noise: float = 1.0

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        state = super().begin(x, sigmas, seed, prediction)
        return replace(state, sigmas=below_1(sigmas, prediction))

    def shares(self) -> tuple[float, ...]:
        """Where in a step the model is asked after its begin, as shares of it in lambda."""
        raise NotImplementedError

    def weights(self, stage: int, h: Tensor) -> list[Tensor]:
        r"""Of the answers known at a stage (the last one is the step's end); `h` is :math:`\bar h`, of the whole
        step."""
        raise NotImplementedError

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        answers = [denoise(state.x, sigma)]
        if after == 0:
            return state.stepped(answers[0])
        start, end = state.half_log_snr(sigma), state.half_log_snr(after)
        h = end - start
        shares = (0.0, *self.shares(), 1.0)
        x, noise, level = state.x, torch.zeros(()), sigma
        for stage, (before, share) in enumerate(pairwise(shares)):
            if share > before:  # else the end itself was asked: noise and level stay
                level = after if share == 1.0 else state.level(torch.lerp(start, end, share))
                if self.eta > 0 and self.s_noise > 0:
                    faded = (before - share) * h * self.eta
                    fresh, rng = draw(state)
                    state = replace(state, rng=rng)
                    noise = noise * faded.exp() + (-torch.expm1(2 * faded)).sqrt() * fresh
            alpha = state.alpha(level)
            x = level / sigma * (-share * h * self.eta).exp() * state.x
            for weight, answer in zip(self.weights(stage, h * (self.eta + 1)), answers, strict=True):
                x = x - alpha * weight * answer
            x = x + noise * level * self.s_noise
            if stage < len(shares) - 2:
                answers.append(denoise(x, level))
        return state.stepped(x)


@dataclass(frozen=True)
class SEEDS2(_Seeds):
    """SEEDS-2: the model is asked a second time at the share r of a step. `solver_type` phi_1 weighs both answers
    as DPM-Solver++ does, phi_2 by the second order condition."""

    r: float = 0.5
    solver_type: Literal["phi_1", "phi_2"] = "phi_1"

    def shares(self) -> tuple[float, ...]:
        return (self.r,)

    def weights(self, stage: int, h: Tensor) -> list[Tensor]:
        if stage == 0:
            return [_phi_1(self.r * h)]
        if self.solver_type == "phi_1":
            share = 1 / (2 * self.r)
            return [(1 - share) * _phi_1(h), share * _phi_1(h)]
        second = _phi_2(h) / self.r
        return [_phi_1(h) - second, second]


@dataclass(frozen=True)
class ExpHeun(SEEDS2):
    """The exponential Heun method for the clean latent: SEEDS-2 that asks at the end of a step; `eta` 0 is without
    noise."""

    eta: float = 0.0
    r: float = 1.0
    solver_type: Literal["phi_1", "phi_2"] = field(default="phi_2")


@dataclass(frozen=True)
class SEEDS3(_Seeds):
    """SEEDS-3, algorithm 4: three model calls a step, the second and third at the shares r_1 and r_2."""

    r_1: float = 1 / 3
    r_2: float = 2 / 3

    def shares(self) -> tuple[float, ...]:
        return (self.r_1, self.r_2)

    def weights(self, stage: int, h: Tensor) -> list[Tensor]:
        if stage == 0:
            return [_phi_1(self.r_1 * h)]
        if stage == 1:
            second = self.r_2 / self.r_1 * _phi_2(self.r_2 * h)
            return [_phi_1(self.r_2 * h) - second, second]
        third = _phi_2(h) / self.r_2
        return [_phi_1(h) - third, torch.zeros(()), third]


def _phi_1(h: Tensor) -> Tensor:
    return torch.expm1(-h)


def _phi_2(h: Tensor) -> Tensor:
    return (torch.expm1(-h) + h) / -h
