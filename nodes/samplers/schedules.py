"""Noise schedules: falling sigmas, ending in 0, of the variance-exploding view x = x_0 + sigma * noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..model.prediction import Prediction


def _end(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _times(prediction: Prediction, steps: int) -> Tensor:
    """Evenly spaced from the time of the noisiest level to that of the clearest."""
    noisiest, clearest = prediction.time(prediction.table()[[-1, 0]]).tolist()
    return torch.linspace(noisiest, clearest, steps)


def normal(prediction: Prediction, steps: int) -> Tensor:
    """Times evenly spaced, both ends included."""
    return _end(prediction.sigma(_times(prediction, steps)))


def sgm_uniform(prediction: Prediction, steps: int) -> Tensor:
    """Times evenly spaced, the last left out."""
    return _end(prediction.sigma(_times(prediction, steps + 1)[:-1]))


def karras(prediction: Prediction, steps: int) -> Tensor:
    """EDM (arXiv 2206.00364), equation 5, rho = 7."""
    low, high = prediction.sigma_min ** (1 / 7), prediction.sigma_max ** (1 / 7)
    return _end((high + torch.linspace(0, 1, steps) * (low - high)) ** 7)


def exponential(prediction: Prediction, steps: int) -> Tensor:
    """Evenly spaced in log sigma."""
    return _end(torch.linspace(math.log(prediction.sigma_max), math.log(prediction.sigma_min), steps).exp())


def simple(prediction: Prediction, steps: int) -> Tensor:
    """Every (1000 / steps)-th trained level, from the noisiest down."""
    levels = prediction.table()
    stride = len(levels) / steps
    return _end(torch.stack([levels[-(1 + int(i * stride))] for i in range(steps)]))


def ddim_uniform(prediction: Prediction, steps: int) -> Tensor:
    """DDIM's (arXiv 2010.02502) whole-number stride from timestep 1; the count may differ by one from `steps`."""
    return _end(prediction.table()[1 :: max(len(prediction.table()) // steps, 1)].flip(0))


def beta(prediction: Prediction, steps: int, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Timesteps at quantiles of Beta(0.6, 0.6): close together at both ends (arXiv 2407.12173). Fewer where two fall
    on the same level."""
    from scipy.special import betaincinv

    quantiles = betaincinv(alpha, beta, 1 - torch.arange(steps, dtype=torch.float64).numpy() / steps)
    places = (torch.from_numpy(quantiles) * (len(prediction.table()) - 1)).round().long()
    return _end(prediction.table()[places.unique_consecutive()])


def kl_optimal(prediction: Prediction, steps: int) -> Tensor:
    """Align Your Steps (arXiv 2404.14507), equation 42: evenly spaced in arctan sigma."""
    low, high = math.atan(prediction.sigma_min), math.atan(prediction.sigma_max)
    return _end((high + torch.linspace(0, 1, steps) * (low - high)).tan())


def linear_quadratic(prediction: Prediction, steps: int, threshold: float = 0.025) -> Tensor:
    """Of Movie Gen (arXiv 2410.13720, section 3.4.2): half of the steps within the first `threshold` of the way, evenly;
    the others with a growing stride that begins as theirs."""
    if steps < 2:
        return torch.tensor([prediction.sigma_max, 0.0])
    even = steps // 2
    stride, left = threshold / even, steps - even
    growth = (1 - threshold - stride * left) / left**2
    i = torch.arange(left)
    way = torch.cat([torch.arange(even) * stride, threshold + stride * i + growth * i**2])
    return _end((1 - way) * prediction.sigma_max)


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
    """The `steps` + 1 sigmas of a run; with `denoise` < 1 the last ones of a longer run, with 0 none at all."""
    if denoise <= 0:
        return torch.empty(0)
    total = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas = SCHEDULES[name](prediction, total + int(discard_penultimate))
    if discard_penultimate:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    return sigmas if total == steps else sigmas[-(steps + 1) :]
