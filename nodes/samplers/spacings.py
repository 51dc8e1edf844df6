r"""Noise levels that need no model, and what can be done to levels: pure functions over falling sigmas, float32 [n]."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..model.prediction import Prediction
from .schedules import ended

__all__ = [
    "GITS",
    "OPTIMAL_STEPS",
    "align_your_steps",
    "extended",
    "flipped",
    "flux2",
    "gits",
    "ideogram4",
    "laplace",
    "ltxv",
    "manual",
    "optimal_steps",
    "polyexponential",
    "sd_turbo",
    "split",
    "split_denoise",
    "vp",
    "with_first",
]


def polyexponential(steps: int, high: float, low: float, rho: float = 1.0) -> Tensor:
    r""":math:`\ln \sigma_i = \ln \sigma_{min} + (1 - \tfrac{i}{n - 1})^\rho (\ln \sigma_{max} - \ln \sigma_{min})`, and
    0."""
    ramp = torch.linspace(1, 0, steps) ** rho
    return ended((ramp * (math.log(high) - math.log(low)) + math.log(low)).double().exp().float())


def laplace(steps: int, high: float, low: float, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    r"""Quantiles of a Laplace distribution of log sigma (arXiv 2407.03297), kept between both ends. Without a closing
    0.

    .. math:: \ln \sigma = \mu - \beta \, \mathrm{sign}(\tfrac{1}{2} - x) \ln(1 - 2 |\tfrac{1}{2} - x| + 10^{-5})
    """
    off = 0.5 - torch.linspace(0, 1, steps)
    return torch.exp(mu - beta * off.sign() * torch.log(1 - 2 * off.abs() + 1e-5)).clamp(min=low, max=high)


def vp(steps: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3) -> Tensor:
    r"""The VP-SDE (arXiv 2011.13456, equation 32) at times from 1 to `eps_s`, and 0.

    .. math:: \sigma(t) = \sqrt{e^{\beta_d t^2 / 2 + \beta_{min} t} - 1}
    """
    t = torch.linspace(1, eps_s, steps)
    return ended(torch.special.expm1((beta_d * t**2 / 2 + beta_min * t).double()).float().sqrt())


def sd_turbo(prediction: Prediction, steps: int, denoise: float = 1.0) -> Tensor:
    """Of the times 999, 899 ... 99 that SD Turbo was distilled on: `steps` of them, from a share `denoise` on, and
    0."""
    start = 10 - int(10 * denoise)
    times = (torch.arange(10, 0, -1) * 100 - 1)[start : start + steps].float()
    return ended(prediction.sigma(times / float(getattr(prediction, "unit", 1.0))).float())


_ALIGNED = {
    "SD1": (14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904,
            0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    "SDXL": (14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289,
             0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
    "SVD": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip
OPTIMAL_STEPS = {
    "FLUX": (0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001),
    "Wan": (1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973, 0.968, 0.96, 0.946, 0.927, 0.902,
            0.864, 0.776, 0.539, 0.208, 0.001),
    "Chroma": (0.992, 0.99, 0.988, 0.985, 0.982, 0.978, 0.973, 0.968, 0.961, 0.953, 0.943, 0.931, 0.917,
               0.9, 0.881, 0.858, 0.832, 0.802, 0.769, 0.731, 0.69, 0.646, 0.599, 0.55, 0.501, 0.451,
               0.402, 0.355, 0.311, 0.27, 0.232, 0.199, 0.169, 0.143, 0.12, 0.101, 0.084, 0.071, 0.058,
               0.048, 0.001),
}  # fmt: skip
"""Optimal stepsizes for diffusion (arXiv 2503.21774), as published for each model."""

GITS: dict[float, tuple[tuple[float, ...], ...]] = {
    0.80: (
        (14.61464119, 7.49001646, 0.02916753),
        (14.61464119, 11.54541874, 7.49001646, 5.85520077, 2.05039096, 0.02916753),
        (14.61464119, 13.76078796, 12.96784878, 12.2308979, 11.54541874, 10.90732002, 10.31284904, 9.75859547,
         9.24142551, 8.75849152, 8.30717278, 7.88507891, 7.49001646, 6.77309084, 5.85520077, 4.86714602, 3.75677586,
         2.84484982, 1.78698075, 0.803307, 0.02916753),
    ),
    1.00: (
        (14.61464119, 7.11996698, 3.07277966, 1.56271636, 0.59516323, 0.02916753),
        (14.61464119, 12.2308979, 9.24142551, 8.30717278, 7.49001646, 6.77309084, 5.85520077, 5.09240818, 4.26497746,
         3.60512662, 2.95596409, 2.45070267, 1.91321158, 1.51179266, 1.12534678, 0.83188516, 0.59516323, 0.38853383,
         0.22545385, 0.09824532, 0.02916753),
    ),
    1.20: (
        (14.61464119, 0.803307, 0.02916753),
        (14.61464119, 2.84484982, 1.24153244, 0.59516323, 0.25053367, 0.02916753),
        (14.61464119, 5.85520077, 2.84484982, 1.67050016, 1.08895338, 0.74807048, 0.50118381, 0.32104823, 0.19894916,
         0.09824532, 0.02916753),
    ),
    1.35: (
        (14.61464119, 2.84484982, 1.56271636, 0.95350921, 0.64427125, 0.45573691, 0.32104823, 0.22545385, 0.17026083,
         0.09824532, 0.02916753),
        (14.61464119, 5.85520077, 2.6383388, 1.61558151, 1.08895338, 0.803307, 0.64427125, 0.52423614, 0.45573691,
         0.38853383, 0.34370604, 0.32104823, 0.29807833, 0.27464288, 0.25053367, 0.22545385, 0.19894916, 0.17026083,
         0.13792117, 0.09824532, 0.02916753),
    ),
    1.50: (
        (14.61464119, 1.24153244, 0.54755926, 0.25053367, 0.09824532, 0.02916753),
        (14.61464119, 2.45070267, 1.41535246, 0.95350921, 0.72133851, 0.57119018, 0.4783645, 0.43325692, 0.38853383,
         0.36617002, 0.34370604, 0.32104823, 0.29807833, 0.27464288, 0.25053367, 0.22545385, 0.19894916, 0.17026083,
         0.13792117, 0.09824532, 0.02916753),
    ),
}  # fmt: skip
"""Coefficient -> the levels that were found for some numbers of steps, fewest first (Stable Diffusion 1.x)."""


def align_your_steps(model: str, steps: int, denoise: float = 1.0) -> Tensor:
    """Align Your Steps (arXiv 2404.14507): the levels published for `SD1`, `SDXL` or `SVD`, interpolated in log
    sigma."""
    return _from_table(_ALIGNED[model], steps, denoise)


def optimal_steps(model: str, steps: int, denoise: float = 1.0) -> Tensor:
    """The levels of `OPTIMAL_STEPS`, interpolated in log sigma."""
    return _from_table(OPTIMAL_STEPS[model], steps, denoise)


def gits(coefficient: float, steps: int, denoise: float = 1.0) -> Tensor:
    """Levels along which the trajectory of Stable Diffusion 1.x bends evenly (GITS, arXiv 2405.11326), by `GITS`.

    A number of steps without levels of its own takes those of the next larger one that has some, or of the largest,
    interpolated in log sigma. Raises KeyError for a coefficient that is not in `GITS`.
    """
    tables = GITS[coefficient]
    table = next((one for one in tables if len(one) > steps), tables[-1])
    return _from_table(table, steps, denoise)


def flux2(steps: int, width: int, height: int) -> Tensor:
    r"""FLUX.2's: the shift mu depends on the number of tokens (16 x 16 pixels) and of steps.

    .. math:: \sigma(t) = \frac{e^\mu}{e^\mu + 1 / t - 1}, \quad t = 1 \dots 0
    """
    tokens = round(width * height / 256)
    many = 0.00016927 * tokens + 0.45666666
    mu = many
    if tokens <= 4300:
        slope = (many - (8.73809524e-05 * tokens + 1.89833333)) / 190.0
        mu = slope * steps + many - 200.0 * slope
    t = torch.linspace(1, 0, steps + 1)
    return math.exp(mu) / (math.exp(mu) + (1 / t - 1))


def ideogram4(steps: int, width: int, height: int, mu: float = 0.0, std: float = 1.75) -> Tensor:
    r"""Ideogram 4's: quantiles of a logit-normal distribution whose mean grows with the image.

    .. math:: t = 1 - \mathrm{sigmoid}(m + s \, \Phi^{-1}(u)), \quad m = \mu + \tfrac{1}{2} \ln \frac{w h}{512^2}, \quad
              u = 0 \dots 1, \quad \sigma = 1 - t

    t is kept within the sigmoids of -9 and 7.5; the last level is 0.
    """
    mean = mu + 0.5 * math.log(width * height / 512**2)
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    t = 1 - torch.sigmoid(mean + std * torch.special.ndtri(u))
    sigmas = (1 - t.clamp(1 / (1 + math.exp(9.0)), 1 / (1 + math.exp(-7.5)))).flip(0).float()
    sigmas[-1] = 0
    return sigmas


def ltxv(
    steps: int, tokens: int = 4096, max_shift: float = 2.05, base_shift: float = 0.95, terminal: float | None = 0.1
) -> Tensor:
    """LTX-Video's: shifted by the number of tokens, linearly from `base_shift` at 1024 to `max_shift` at 4096 and on;
    with a `terminal` stretched so that the last level but 0 is that one."""
    slope = (max_shift - base_shift) / (4096 - 1024)
    shift = math.exp(tokens * slope + base_shift - slope * 1024)
    sigmas = torch.linspace(1.0, 0.0, steps + 1)
    noisy = sigmas != 0
    sigmas = torch.where(noisy, shift / (shift + (1 / sigmas - 1)), 0.0)
    if terminal is not None:
        left = 1 - sigmas[noisy]
        sigmas[noisy] = 1 - left / (left[-1] / (1 - terminal))
    return sigmas


def manual(text: str) -> Tensor:
    """All numbers of a text, in order; anything else between them is skipped."""
    found = re.findall(r"[-+]?(?:\d*\.\d+|\d+\.?)(?:[eE][-+]?\d+)?", text)
    return torch.tensor([float(number) for number in found], dtype=torch.float32)


def split(sigmas: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The levels up to a step and those from it on; both have the level in between."""
    return sigmas[: step + 1].clone(), sigmas[step:].clone()


def split_denoise(sigmas: Tensor, denoise: float) -> tuple[Tensor, Tensor]:
    """The same, so that the second part makes a share `denoise` of the steps. With 0 the first part is empty."""
    last = round(max(len(sigmas) - 1, 0) * denoise)
    return sigmas[:-last].clone() if last else sigmas[:0].clone(), sigmas[-(last + 1) :].clone()


def flipped(sigmas: Tensor) -> Tensor:
    """Backwards, to add noise step by step; a first level of 0 becomes 0.0001."""
    found = sigmas.flip(0)
    if len(found) and found[0] == 0:
        found[0] = 0.0001
    return found


def with_first(sigmas: Tensor, sigma: float) -> Tensor:
    found = sigmas.clone()
    found[:1] = sigma
    return found


def extended(
    sigmas: Tensor, steps: int, start: float, end: float, spacing: Literal["linear", "cosine", "sine"] = "linear"
) -> Tensor:
    r"""`steps` steps in place of each that begins between `start` (below 0: any) and `end`.

    Between two levels lie :math:`\sigma_i + f(x) (\sigma_{i+1} - \sigma_i)`, f being x, :math:`\sin(\pi x / 2)`
    (cosine) or
    :math:`1 - \cos(\pi x / 2)` (sine).
    """
    start = math.inf if start < 0 else start
    x = torch.linspace(0, 1, steps + 1)[1:-1]
    shares = {"linear": x, "cosine": torch.sin(x * math.pi / 2), "sine": 1 - torch.cos(x * math.pi / 2)}[spacing]
    found: list[Tensor] = []
    for here, there in pairwise(sigmas):
        found.append(here.view(1))
        if end <= float(here) <= start:
            found.append(here + (there - here) * shares)
    return torch.cat([*found, sigmas[-1:]])


def _from_table(levels: tuple[float, ...], steps: int, denoise: float) -> Tensor:
    """`steps` + 1 levels of a table, interpolated in log sigma where it has another number; the last is 0."""
    import numpy as np

    if denoise <= 0:
        return torch.empty(0)
    total = round(steps * denoise) if denoise < 1 else steps
    table = np.array(levels)
    if steps + 1 != len(table):
        known, wanted = np.linspace(0, 1, len(table)), np.linspace(0, 1, steps + 1)
        table = np.exp(np.interp(wanted, known, np.log(table[::-1])))[::-1]
    sigmas = torch.tensor(table[-(total + 1) :].copy(), dtype=torch.float32)
    sigmas[-1] = 0
    return sigmas
