r"""Noise schedules: falling levels of any prediction, ending in 0.

A sampler's name for a schedule gives `steps` + 1 levels: :math:`\sigma_0 > \sigma_1 > \dots > \sigma_{steps} = 0`,
float32. Stochastic samplers feel their last digit, so each formula is computed in the order and the precision it is
written in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..model.prediction import Prediction

__all__ = [
    "SCHEDULES",
    "beta",
    "beta_of",
    "ddim_uniform",
    "ended",
    "exponential",
    "exponential_between",
    "karras",
    "karras_between",
    "kl_optimal",
    "linear_quadratic",
    "normal",
    "schedule",
    "sgm_uniform",
    "simple",
]


def ended(sigmas: Tensor) -> Tensor:
    """The levels, and 0."""
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def normal(prediction: Prediction, steps: int) -> Tensor:
    """Times evenly spaced, both ends included."""
    return ended(prediction.sigma(prediction.times(steps)))


def sgm_uniform(prediction: Prediction, steps: int) -> Tensor:
    """Times evenly spaced, the last left out."""
    return ended(prediction.sigma(prediction.times(steps + 1)[:-1]))


def karras(prediction: Prediction, steps: int) -> Tensor:
    return karras_between(prediction.sigma_max, prediction.sigma_min, steps)


def karras_between(high: float, low: float, steps: int, rho: float = 7.0) -> Tensor:
    r"""EDM (arXiv 2206.00364), equation 5, and 0:

    .. math:: \sigma_i = \left(\sigma_{max}^{1/\rho} + \tfrac{i}{n - 1}
              (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\right)^\rho
    """
    low, high = low ** (1 / rho), high ** (1 / rho)
    return ended((high + torch.linspace(0, 1, steps) * (low - high)) ** rho)


def exponential(prediction: Prediction, steps: int) -> Tensor:
    return exponential_between(prediction.sigma_max, prediction.sigma_min, steps)


def exponential_between(high: float, low: float, steps: int) -> Tensor:
    """Evenly spaced in log sigma, and 0."""
    return ended(torch.linspace(math.log(high), math.log(low), steps).double().exp().float())


def simple(prediction: Prediction, steps: int) -> Tensor:
    """Every (n / steps)-th of the n levels of the table, from the noisiest down."""
    levels = prediction.table()
    stride = len(levels) / steps
    return ended(torch.stack([levels[-(1 + int(i * stride))] for i in range(steps)]))


def ddim_uniform(prediction: Prediction, steps: int) -> Tensor:
    """DDIM's (arXiv 2010.02502) whole-number stride from the second level; the count may differ from `steps`."""
    levels = prediction.table()
    return ended(levels[1 :: max(len(levels) // steps, 1)].flip(0))


def beta(prediction: Prediction, steps: int) -> Tensor:
    return beta_of(prediction, steps)


def beta_of(prediction: Prediction, steps: int, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Levels of the table at quantiles of Beta(alpha, beta) (arXiv 2407.12173): with 0.6, close together at both ends.

    Fewer than `steps` where two quantiles fall on the same level.
    """
    from scipy.special import betaincinv

    quantiles = betaincinv(alpha, beta, 1 - torch.arange(steps, dtype=torch.float64).numpy() / steps)
    levels = prediction.table()
    places = (torch.from_numpy(quantiles) * (len(levels) - 1)).round().long()
    return ended(levels[torch.unique_consecutive(places)])


def kl_optimal(prediction: Prediction, steps: int) -> Tensor:
    r"""Align Your Steps (arXiv 2404.14507), equation 42: evenly spaced in arctan sigma.

    .. math:: \sigma_i = \tan\left(\tfrac{i}{n - 1} \arctan \sigma_{min} + (1 - \tfrac{i}{n - 1}) \arctan
    \sigma_{max}\right)
    """
    low, high = math.atan(prediction.sigma_min), math.atan(prediction.sigma_max)
    x = torch.arange(steps, dtype=torch.float32) / max(steps - 1, 1)
    return ended((x * low + (1 - x) * high).tan())


def linear_quadratic(prediction: Prediction, steps: int, threshold: float = 0.025) -> Tensor:
    """Of Movie Gen (arXiv 2410.13720, section 3.4.2): half of the steps within the first `threshold` of the way,
    evenly; the others with a growing stride that begins as theirs."""
    if steps < 2:
        return torch.tensor([prediction.sigma_max, 0.0])
    even = steps // 2
    stride, left = threshold / even, steps - even
    growth = (1 - threshold - stride * left) / left**2
    way = [i * stride for i in range(even)] + [threshold + stride * i + growth * i * i for i in range(left)]
    return ended(torch.tensor([1 - done for done in way]) * prediction.sigma_max)


SCHEDULES: dict[str, Callable[[Prediction, int], Tensor]] = {
    "normal": normal,
    "karras": karras,
    "exponential": exponential,
    "sgm_uniform": sgm_uniform,
    "simple": simple,
    "ddim_uniform": ddim_uniform,
    "beta": beta,
    "linear_quadratic": linear_quadratic,
    "kl_optimal": kl_optimal,
}


def schedule(
    name: str, steps: int, prediction: Prediction, denoise: float = 1.0, discard_penultimate: bool = False
) -> Tensor:
    """The `steps` + 1 levels of a run; with `denoise` < 1 the last ones of a longer run, with 0 none at all."""
    if denoise <= 0:
        return torch.empty(0)
    total = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas = SCHEDULES[name](prediction, total + int(discard_penultimate))
    if discard_penultimate:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    return sigmas if total == steps else sigmas[-(steps + 1) :]
