"""Noise schedules: falling sigmas, ending in 0, of the variance-exploding view x = x_0 + sigma * noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


def scaled_linear_alphas_cumprod(start: float = 0.00085, end: float = 0.012, steps: int = 1000) -> Tensor:
    """alphas_cumprod of Latent Diffusion (arXiv 2112.10752): betas linear in their square root; shape (steps,)."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


@dataclass(frozen=True, eq=False)
class ModelSampling:
    """The discrete noise levels that a noise-predicting model was trained on."""

    alphas_cumprod: Tensor = field(default_factory=scaled_linear_alphas_cumprod)

    @property
    def sigmas(self) -> Tensor:
        """sqrt((1 - a) / a), rising, float32."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().float()

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def sigma(self, timestep: float | Tensor) -> Tensor:
        """The noise level at a timestep, interpolated in log sigma."""
        logs = self.sigmas.log()
        t = torch.as_tensor(timestep, dtype=torch.float32).clamp(0, len(logs) - 1)
        low, high, part = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - part) * logs[low] + part * logs[high]).exp()

    def timestep(self, sigma: float | Tensor) -> Tensor:
        """The index of the nearest noise level in log sigma; the shape of `sigma`."""
        logs = self.sigmas.log()
        asked = torch.as_tensor(sigma, dtype=torch.float32, device="cpu").log()
        return (asked.unsqueeze(-1) - logs).abs().argmin(dim=-1)


def _end(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def normal(sampling: ModelSampling, steps: int) -> Tensor:
    """Timesteps evenly spaced, both ends included."""
    return _end(sampling.sigma(torch.linspace(len(sampling.sigmas) - 1, 0, steps)))


def sgm_uniform(sampling: ModelSampling, steps: int) -> Tensor:
    """Timesteps evenly spaced, the last left out."""
    return _end(sampling.sigma(torch.linspace(len(sampling.sigmas) - 1, 0, steps + 1)[:-1]))


def karras(sampling: ModelSampling, steps: int) -> Tensor:
    """EDM (arXiv 2206.00364), equation 5, rho = 7."""
    low, high = sampling.sigma_min ** (1 / 7), sampling.sigma_max ** (1 / 7)
    return _end((high + torch.linspace(0, 1, steps) * (low - high)) ** 7)


def exponential(sampling: ModelSampling, steps: int) -> Tensor:
    """Evenly spaced in log sigma."""
    return _end(torch.linspace(math.log(sampling.sigma_max), math.log(sampling.sigma_min), steps).exp())


def simple(sampling: ModelSampling, steps: int) -> Tensor:
    """Every (1000 / steps)-th trained level, from the noisiest down."""
    levels = sampling.sigmas
    stride = len(levels) / steps
    return _end(torch.stack([levels[-(1 + int(i * stride))] for i in range(steps)]))


def ddim_uniform(sampling: ModelSampling, steps: int) -> Tensor:
    """DDIM's (arXiv 2010.02502) whole-number stride from timestep 1; the count may differ by one from `steps`."""
    return _end(sampling.sigmas[1 :: max(len(sampling.sigmas) // steps, 1)].flip(0))


def beta(sampling: ModelSampling, steps: int) -> Tensor:
    """Timesteps at quantiles of Beta(0.6, 0.6): close together at both ends (arXiv 2407.12173). Fewer where two fall
    on the same level."""
    from scipy.special import betaincinv

    quantiles = betaincinv(0.6, 0.6, 1 - torch.arange(steps, dtype=torch.float64).numpy() / steps)
    places = (torch.from_numpy(quantiles) * (len(sampling.sigmas) - 1)).round().long()
    return _end(sampling.sigmas[places.unique_consecutive()])


def kl_optimal(sampling: ModelSampling, steps: int) -> Tensor:
    """Align Your Steps (arXiv 2404.14507), equation 42: evenly spaced in arctan sigma."""
    low, high = math.atan(sampling.sigma_min), math.atan(sampling.sigma_max)
    return _end((high + torch.linspace(0, 1, steps) * (low - high)).tan())


def linear_quadratic(sampling: ModelSampling, steps: int, threshold: float = 0.025) -> Tensor:
    """Of Movie Gen (arXiv 2410.13720, section 3.4.2): half of the steps within the first `threshold` of the way, evenly;
    the others with a growing stride that begins as theirs."""
    if steps < 2:
        return torch.tensor([sampling.sigma_max, 0.0])
    even = steps // 2
    stride, left = threshold / even, steps - even
    growth = (1 - threshold - stride * left) / left**2
    i = torch.arange(left)
    way = torch.cat([torch.arange(even) * stride, threshold + stride * i + growth * i**2])
    return _end((1 - way) * sampling.sigma_max)


SCHEDULES: dict[str, Callable[[ModelSampling, int], Tensor]] = {
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
    name: str, steps: int, sampling: ModelSampling, denoise: float = 1.0, discard_penultimate: bool = False
) -> Tensor:
    """The `steps` + 1 sigmas of a run; with `denoise` < 1 the last ones of a longer run, with 0 none at all."""
    if denoise <= 0:
        return torch.empty(0)
    total = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas = SCHEDULES[name](sampling, total + int(discard_penultimate))
    if discard_penultimate:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    return sigmas if total == steps else sigmas[-(steps + 1) :]
