r"""The forward process: from a clean latent to noise, in closed form and step by step.

At a level :math:`\sigma` a network sees :math:`x_t = \alpha_t x_0 + s_t n`. Between two levels the process is Gaussian
(variational diffusion models, arXiv 2107.00630, section 3.1):

.. math:: q(x_t | x_s) = N(a \, x_s, \, b^2), \quad a = \alpha_t / \alpha_s, \quad b^2 = s_t^2 - a^2 s_s^2

With :math:`\alpha^2 = \bar\alpha` and :math:`s^2 = 1 - \bar\alpha` this is DDPM's
:math:`N(\sqrt{1 - \beta_t} \, x_{t-1}, \beta_t)` (arXiv 2006.11239, equation 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.prediction import Prediction

__all__ = ["LAST", "at_levels", "level_of", "step_by_step", "transition", "weights"]

LAST = 999
"""The noisiest of the timesteps 0, 1, 2 ..."""
Weights = tuple[float, float]


def level_of(prediction: Prediction, timestep: int) -> float:
    """The noise level of a timestep 0..999; for a flow that of this share of its way."""
    level = prediction.at(1.0 - timestep / LAST)
    return max(min(level, prediction.sigma_max), prediction.sigma_min)


def weights(prediction: Prediction, sigma: float) -> Weights:
    """(alpha, s): the weights of the clean latent and of the noise in what the network sees at a level."""
    level, one, zero = (torch.tensor(value, dtype=torch.float64) for value in (sigma, 1.0, 0.0))
    seen = [prediction.scale_in(prediction.noised(x0, noise, level), level) for x0, noise in ((one, zero), (zero, one))]
    return float(seen[0]), float(seen[1])


def transition(before: Weights, after: Weights) -> Weights:
    """(a, b) of a step: the factor of x, and the deviation of the noise to add."""
    kept = after[0] / before[0]
    return kept, math.sqrt(max(0.0, after[1] ** 2 - kept**2 * before[1] ** 2))


def at_levels(x0: Tensor, noise: Tensor, prediction: Prediction, timesteps: Sequence[int]) -> list[Tensor]:
    """x_t at timesteps in closed form, all with one noise; x0 and noise of one shape, model unit."""
    found = []
    for timestep in timesteps:
        sigma = torch.tensor(level_of(prediction, timestep), dtype=torch.float32)
        found.append(prediction.scale_in(prediction.noised(x0, noise, sigma), sigma))
    return found


def step_by_step(x0: Tensor, seed: int, prediction: Prediction, timesteps: Sequence[int]) -> list[Tensor]:
    """x_t at rising timesteps by all steps 0, 1, 2 ... between them, each with noise of its own; x0 in the model's
    unit."""
    generator = torch.Generator().manual_seed(seed)
    x, before, found = x0, weights(prediction, 0.0), []
    for timestep in range(max(timesteps) + 1):
        after = weights(prediction, level_of(prediction, timestep))
        kept, added = transition(before, after)
        x = kept * x + added * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        before = after
        found += [x] * list(timesteps).count(timestep)
    return found
