"""The noise levels that a network was trained on, and the times by which it knows them: frozen, hashable values.

A level is a sigma, the deviation of the noise beside a clean latent of weight 1. Tables are float32 and rise. Every
logarithm and exponential is taken in float64 and rounded once, so a table has the same bits on every processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["INFINITE", "ContinuousV", "Cosine", "Discrete", "Distilled", "Levels", "LogUniform"]

INFINITE = 999999999.9
"""The level before the noisiest one: the start of a window that has no start."""


@runtime_checkable
class Levels(Protocol):
    """Noise levels and their times. Implementations: Discrete, Distilled, LogUniform, ContinuousV, Cosine."""

    def identity(self) -> Any:
        """Plain Python, equal for equal levels on every machine."""

    def table(self) -> Tensor:
        """The levels, rising, float32 [n]. Shared: must not be written to."""

    def time(self, sigma: Tensor) -> Tensor:
        """The network's time at a level; the shape of `sigma`."""

    def sigma(self, time: Tensor) -> Tensor:
        """The level at a time, float32, the shape of `time`."""

    def at(self, percent: float) -> float:
        """The level at a share of the sampling: `INFINITE` at 0, 0 at 1."""


@dataclass(frozen=True)
class Discrete:
    r"""The levels of Latent Diffusion (arXiv 2112.10752): betas whose square roots are evenly spaced.

    .. math:: \beta_t = \left(\sqrt{start} + \tfrac{t}{n - 1} (\sqrt{end} - \sqrt{start})\right)^2, \quad
              \bar\alpha_t = \prod_{i \le t} (1 - \beta_i), \quad \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}

    The time is the index of the level, 0..n-1; `sigma` interpolates the logarithms between two of them.

    With `zero_snr` the square roots of alphas are shifted and scaled so that the last is 0 and the first keeps its
    value (arXiv 2305.08891, algorithm 1). The last is then set to 4.9e-8, so that its sigma is finite.
    """

    start: float = 0.00085
    end: float = 0.012
    count: int = 1000
    zero_snr: bool = False

    def identity(self) -> list[Any]:
        return ["discrete", self.start, self.end, self.count, self.zero_snr]

    def alphas_cumprod(self) -> Tensor:
        r""":math:`\bar\alpha_t`, falling, float64 [count]. Shared: must not be written to."""
        return _alphas_cumprod(self)

    def table(self) -> Tensor:
        return _discrete(self)[0]

    def time(self, sigma: Tensor) -> Tensor:
        """The index of the nearest level in log sigma, int64."""
        import torch

        logs = _discrete(self)[1]
        asked = torch.as_tensor(sigma, dtype=torch.float32)
        return (asked.cpu().log().unsqueeze(-1) - logs).abs().argmin(dim=-1).to(asked.device)

    def sigma(self, time: Tensor) -> Tensor:
        return _between(_discrete(self)[1], time)

    def at(self, percent: float) -> float:
        """Evenly in time: the level at time 999 (1 - percent)."""
        return _ends(percent) if not 0 < percent < 1 else _at_time(self, (1 - percent) * (self.count - 1))


@dataclass(frozen=True)
class Distilled:
    """Every 20th level of a discrete table, from the noisiest down: the 50 that a consistency model was distilled on
    (arXiv 2310.04378, section 4.3). The time is the index in the whole table: 19, 39 ... 999."""

    whole: Discrete = Discrete()
    count: int = 50

    @property
    def stride(self) -> int:
        return self.whole.count // self.count

    def identity(self) -> list[Any]:
        return ["distilled", self.count, self.whole.identity()]

    def table(self) -> Tensor:
        return self.whole.table()[self.stride - 1 :: self.stride]

    def time(self, sigma: Tensor) -> Tensor:
        import torch

        logs = _discrete(self.whole)[1][self.stride - 1 :: self.stride]
        asked = torch.as_tensor(sigma, dtype=torch.float32)
        near = (asked.cpu().log().unsqueeze(-1) - logs).abs().argmin(dim=-1)
        return (near * self.stride + self.stride - 1).to(asked.device)

    def sigma(self, time: Tensor) -> Tensor:
        import torch

        place = (torch.as_tensor(time, dtype=torch.float32) - (self.stride - 1)) / self.stride
        return _between(_discrete(self.whole)[1][self.stride - 1 :: self.stride], place)

    def at(self, percent: float) -> float:
        return _ends(percent) if not 0 < percent < 1 else _at_time(self, (1 - percent) * (self.whole.count - 1))


@dataclass(frozen=True)
class LogUniform:
    r"""1000 levels evenly spaced in log sigma, of networks that take any level (EDM, arXiv 2206.00364, table 1).

    .. math:: time = \tfrac{1}{4} \ln \sigma
    """

    low: float = 0.002
    high: float = 120.0

    def identity(self) -> list[Any]:
        return ["log_uniform", self.low, self.high]

    def table(self) -> Tensor:
        return _log_uniform(self.low, self.high)

    def time(self, sigma: Tensor) -> Tensor:
        return 0.25 * _float32(sigma).log()

    def sigma(self, time: Tensor) -> Tensor:
        return _exp(_float32(time) / 0.25)

    def at(self, percent: float) -> float:
        r""":math:`\exp((1 - p) \ln \sigma_{max} + p \ln \sigma_{min})`"""
        return _ends(percent) if not 0 < percent < 1 else _at_log(self.table(), percent)


@dataclass(frozen=True)
class ContinuousV:
    r"""1000 levels evenly spaced in log sigma, by the angle between signal and noise (arXiv 2202.00512, appendix D).

    .. math:: time = \tfrac{2}{\pi} \arctan \sigma
    """

    low: float = 0.03
    high: float = 500.0

    def identity(self) -> list[Any]:
        return ["continuous_v", self.low, self.high]

    def table(self) -> Tensor:
        return _log_uniform(self.low, self.high)

    def time(self, sigma: Tensor) -> Tensor:
        return _float32(sigma).atan() / math.pi * 2

    def sigma(self, time: Tensor) -> Tensor:
        return (_float32(time) * (math.pi * 0.5)).tan()

    def at(self, percent: float) -> float:
        return _ends(percent) if not 0 < percent < 1 else _at_log(self.table(), percent)


@dataclass(frozen=True)
class Cosine:
    r"""The cosine schedule (arXiv 2102.09672, equation 17), its log SNR lowered for larger images (arXiv 2301.11093,
    eq. 3).

    .. math:: \bar\alpha(t) = \frac{\cos^2(\tfrac{t + s}{1 + s} \tfrac{\pi}{2})}{\cos^2(\tfrac{s}{1 + s}
    \tfrac{\pi}{2})},
              \quad s = 0.008, \quad \ln SNR = \ln \tfrac{\bar\alpha}{1 - \bar\alpha} - 2 \ln shift

    alphas are kept within 0.0001 and 0.9999. The table has 10,000 levels, time is 0..1.
    """

    shift: float = 1.0

    OFFSET: ClassVar[float] = 0.008

    def identity(self) -> list[Any]:
        return ["cosine", self.shift]

    def table(self) -> Tensor:
        return _cosine(self)

    def time(self, sigma: Tensor) -> Tensor:
        """The time of a level without shift: what the networks of the cosine schedule are asked with."""
        alpha = 1 / (_float32(sigma) ** 2 + 1)
        return (alpha * self._start()).sqrt().acos() / (math.pi * 0.5) * (1 + self.OFFSET) - self.OFFSET

    def sigma(self, time: Tensor) -> Tensor:
        alpha = ((_float32(time) + self.OFFSET) / (1 + self.OFFSET) * math.pi * 0.5).cos() ** 2 / self._start()
        if self.shift != 1.0:
            alpha = ((alpha / (1 - alpha)).log() - 2 * math.log(self.shift)).sigmoid()
        alpha = alpha.clamp(0.0001, 0.9999)
        return ((1 - alpha) / alpha).sqrt()

    def _start(self) -> Tensor:
        return (_float32(self.OFFSET / (1 + self.OFFSET)) * math.pi * 0.5).cos() ** 2

    def at(self, percent: float) -> float:
        return _ends(percent) if not 0 < percent < 1 else _at_time(self, 1 - percent)


@lru_cache(maxsize=16)
def _alphas_cumprod(levels: Discrete) -> Tensor:
    import torch

    betas = torch.linspace(levels.start**0.5, levels.end**0.5, levels.count, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, dim=0)
    if levels.zero_snr:
        roots = alphas.sqrt()
        alphas = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
        alphas[-1] = 4.8973451890853435e-08
    return alphas


@lru_cache(maxsize=16)
def _discrete(levels: Discrete) -> tuple[Tensor, Tensor]:
    """The table and its logarithms, each rounded from float64 once."""
    alphas = _alphas_cumprod(levels)
    sigmas = ((1 - alphas) / alphas).sqrt()
    return sigmas.float(), sigmas.log().float()


@lru_cache(maxsize=16)
def _log_uniform(low: float, high: float) -> Tensor:
    import torch

    return _exp(torch.linspace(math.log(low), math.log(high), 1000))


@lru_cache(maxsize=4)
def _cosine(levels: Cosine) -> Tensor:
    import torch

    return levels.sigma(torch.arange(1, 10001) / 10000)


def _between(logs: Tensor, place: Tensor) -> Tensor:
    """The level at a place among levels, whose logarithms are interpolated."""
    import torch

    place = torch.as_tensor(place, dtype=torch.float32)
    at = place.cpu().clamp(0, len(logs) - 1)
    low, high, part = at.floor().long(), at.ceil().long(), at.frac()
    return _exp((1 - part) * logs[low] + part * logs[high]).to(place.device)


def _ends(percent: float) -> float:
    return INFINITE if percent <= 0 else 0.0


def _at_time(levels: Levels, time: float) -> float:
    import torch

    return float(levels.sigma(torch.tensor(time)))


def _at_log(table: Tensor, percent: float) -> float:
    low, high = math.log(float(table[0])), math.log(float(table[-1]))
    return math.exp(high * (1 - percent) + low * percent)


def _exp(x: Tensor) -> Tensor:
    """Rounded from float64: float32's own differs in the last bit from processor to processor."""
    return x.double().exp().float()


def _float32(x: Any) -> Tensor:
    import torch

    return torch.as_tensor(x, dtype=torch.float32)
