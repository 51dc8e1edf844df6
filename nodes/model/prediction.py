r"""What the answer of a denoiser means (noise, velocity, the clean latent or a flow), and which noise levels it knows.

Two processes lead from a clean latent :math:`x_0` to noise :math:`n`:

.. math:: x = x_0 + \sigma n \quad \text{(exploding variance: Epsilon, V, EDM, X0, LCM)}, \qquad
          x = (1 - \sigma) x_0 + \sigma n \quad \text{(flow: Flow, FluxFlow)}

`signal(sigma)` is the weight of :math:`x_0`. The networks of the first process take x divided by the deviation of the
whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .levels import Discrete, Distilled, Levels, LogUniform

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "EDM",
    "ConsistencyPrediction",
    "X0",
    "CosmosFlow",
    "Epsilon",
    "Flow",
    "FluxFlow",
    "ImageToImage",
    "Prediction",
    "V",
    "is_within",
    "noise_scale_of",
]


@runtime_checkable
class Prediction(Protocol):
    """A frozen, hashable value. Levels are sigmas, float32; x and x0 are float32 in the model's unit, [..., C, h, w].

    `sigma` is 0-d, or of a shape that broadcasts against x. torch is imported in the methods.
    """

    def identity(self) -> Any:
        """Plain Python, equal for equal predictions on every machine."""

    def table(self) -> Tensor:
        """The noise levels that it knows, rising, float32."""

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    def signal(self, sigma: Tensor) -> Tensor:
        """The weight of the clean latent at a level: 1, or 1 - sigma for flow."""

    def time(self, sigma: Tensor) -> Tensor:
        """The time as the network takes it: 0..999 for epsilon and v, sigma for flow; the shape of `sigma`."""

    def sigma(self, time: Tensor) -> Tensor:
        """The level at a time, between the levels of the table as well."""

    def times(self, count: int) -> Tensor:
        """So many times evenly spaced, from that of the noisiest level to that of the clearest."""

    def at(self, percent: float) -> float:
        """The level at a share of the sampling: 0 is the noisiest (`INFINITE`, or 1 for flow), 1 the end (0)."""

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x as the network takes it."""

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        """The clean latent that the network's answer `out` stands for, at x (not scaled)."""

    def noised(self, x0: Tensor, noise: Tensor, sigma: Tensor, max_denoise: bool = False) -> Tensor:
        """The forward process in closed form; `max_denoise`: the start of a whole run."""

    def unnoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The x that a sampler returns where the last level is not 0 (leftover noise)."""

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The target that the network is trained to answer."""


def is_within(prediction: Prediction, window: tuple[float, float], level: float) -> bool:
    """Whether a noise level lies in a window, stated in shares of the sampling; both of its ends do."""
    start, end = (prediction.at(share) for share in window)
    return end <= level <= start


@dataclass(frozen=True)
class _Exploding:
    r""":math:`x = x_0 + \sigma n`; the network takes :math:`x / \sqrt{\sigma^2 + d^2}`, d the deviation of the data."""

    levels: Levels = field(default=Discrete())
    sigma_data: float = 1.0

    def identity(self) -> list[Any]:
        return [type(self).__name__, self.levels.identity(), self.sigma_data]

    def table(self) -> Tensor:
        return self.levels.table()

    @property
    def sigma_min(self) -> float:
        return float(self.table()[0])

    @property
    def sigma_max(self) -> float:
        return float(self.table()[-1])

    def signal(self, sigma: Tensor) -> Tensor:
        return _ones(sigma)

    def time(self, sigma: Tensor) -> Tensor:
        return self.levels.time(sigma)

    def sigma(self, time: Tensor) -> Tensor:
        return self.levels.sigma(time)

    def times(self, count: int) -> Tensor:
        return _evenly(self.time(self.table()[[-1, 0]]), count)

    def at(self, percent: float) -> float:
        return self.levels.at(percent)

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`c_{in}(\sigma) x = x / \sqrt{\sigma^2 + d^2}` (EDM, arXiv 2206.00364, table 1)"""
        return x / (sigma**2 + self.sigma_data**2) ** 0.5

    def noised(self, x0: Tensor, noise: Tensor, sigma: Tensor, max_denoise: bool = False) -> Tensor:
        r""":math:`x_0 + \sigma n`; a whole run starts from the deviation of the noisiest training data,
        :math:`x_0 + \sqrt{1 + \sigma^2} n`."""
        return x0 + noise * ((1.0 + sigma**2) ** 0.5 if max_denoise else sigma)

    def unnoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Epsilon(_Exploding):
    r"""The network answers with the noise (DDPM, arXiv 2006.11239, equation 11): SD 1.x, SD 2 base, SDXL.

    .. math:: x_0 = x - \sigma \, e(x / \sqrt{\sigma^2 + 1})
    """

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        return x - out * sigma

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return noise


@dataclass(frozen=True)
class V(_Exploding):
    r"""The network answers with the velocity (arXiv 2202.00512, appendix D): SD 2 at 768 px; on LogUniform levels
    CosXL.

    .. math:: x_0 = \frac{d^2}{\sigma^2 + d^2} x - \frac{\sigma d}{\sqrt{\sigma^2 + d^2}} v, \qquad
              v = \frac{d \, n - \sigma x_0 / d}{\sqrt{\sigma^2 + d^2}}

    `V(Discrete(zero_snr=True))` is the form with zero terminal SNR.
    """

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        d, square = self.sigma_data, sigma**2 + self.sigma_data**2
        return x * d**2 / square - out * sigma * d / square**0.5

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        d = self.sigma_data
        return (d * noise - sigma * x0 / d) / (sigma**2 + d**2) ** 0.5


@dataclass(frozen=True)
class EDM(_Exploding):
    r"""The preconditioned network of EDM (arXiv 2206.00364, table 1), of data with deviation d: Playground 2.5.

    .. math:: x_0 = \frac{d^2}{\sigma^2 + d^2} x + \frac{\sigma d}{\sqrt{\sigma^2 + d^2}} F
    """

    levels: Levels = field(default=LogUniform())
    sigma_data: float = 0.5

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        d, square = self.sigma_data, sigma**2 + self.sigma_data**2
        return x * d**2 / square + out * sigma * d / square**0.5

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        d = self.sigma_data
        return (sigma * x0 / d - d * noise) / (sigma**2 + d**2) ** 0.5


@dataclass(frozen=True)
class X0(_Exploding):
    """The network answers with the clean latent."""

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        return out

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return x0


@dataclass(frozen=True)
class ImageToImage(X0):
    """A network that makes another image of a latent in one go (Lotus, arXiv 2409.18124): it takes the latent itself
    and answers with the result. A sampler adds its noise as for other networks: such a model is run with DisableNoise,
    or sees noise beside its image."""

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class CosmosFlow(_Exploding):
    r"""A rectified flow on the levels of EDM (Cosmos Predict 2), :math:`t = \sigma / (\sigma + 1)`:

    .. math:: x_0 = (1 - t) x - t \, v(x / (\sigma + 1)), \qquad v = n - x_0
    """

    levels: Levels = field(default=LogUniform())

    def time(self, sigma: Tensor) -> Tensor:
        return sigma / (sigma + 1.0)

    def sigma(self, time: Tensor) -> Tensor:
        return time / (1.0 - time)

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (sigma + 1.0)

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        time = self.time(sigma)
        return x * (1.0 - time) - out * time

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return noise - x0


@dataclass(frozen=True)
class ConsistencyPrediction(_Exploding):
    r"""A latent consistency model (arXiv 2310.04378, equation 9), s = 10 time, d = 0.5:

    .. math:: x_0 = \frac{d^2}{s^2 + d^2} x + \frac{s}{\sqrt{s^2 + d^2}} (x - \sigma e)
    """

    levels: Levels = field(default=Distilled())

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        scaled, d = self.time(sigma) * 10.0, 0.5
        kept, made = d**2 / (scaled**2 + d**2), scaled / (scaled**2 + d**2) ** 0.5
        return made * (x - out * sigma) + kept * x

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The noise whose clean latent is x0, at the x of the forward process."""
        scaled, d = self.time(sigma) * 10.0, 0.5
        kept, made = d**2 / (scaled**2 + d**2), scaled / (scaled**2 + d**2) ** 0.5
        x = x0 + sigma * noise
        return (x - (x0 - kept * x) / made) / sigma


@dataclass(frozen=True)
class _Straight:
    r"""Rectified flow (arXiv 2209.03003): :math:`x = (1 - \sigma) x_0 + \sigma n`, the network answers with n - x_0.

    .. math:: x_0 = x - \sigma v(x)

    Models that were trained with noise of another deviation c have it in place of n: c n.
    """

    noise_scale: float = field(default=1.0, kw_only=True)
    """c"""

    def table(self) -> Tensor:
        raise NotImplementedError

    @property
    def sigma_min(self) -> float:
        return float(self.table()[0])

    @property
    def sigma_max(self) -> float:
        return float(self.table()[-1])

    def signal(self, sigma: Tensor) -> Tensor:
        return 1.0 - sigma

    def time(self, sigma: Tensor) -> Tensor:
        """The level itself: what a network makes of it (times 1000, 1 - sigma) is its family's."""
        import torch

        return torch.as_tensor(sigma, dtype=torch.float32)

    def times(self, count: int) -> Tensor:
        return _evenly(self.table()[[-1, 0]], count)

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        return x - out * sigma

    def noised(self, x0: Tensor, noise: Tensor, sigma: Tensor, max_denoise: bool = False) -> Tensor:
        return sigma * self._scaled(noise) + (1.0 - sigma) * x0

    def unnoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`x / (1 - \sigma)`: the clean latent has weight 1 again; x itself at level 1, which holds none of
        it."""
        return x if float(sigma) == 1.0 else x / (1.0 - sigma)

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return self._scaled(noise) - x0

    def _scaled(self, noise: Tensor) -> Tensor:
        return noise if self.noise_scale == 1.0 else noise * self.noise_scale

    def _with_scale(self, stated: list[Any]) -> list[Any]:
        """An identity with the scale of the noise, where it is another one."""
        return stated if self.noise_scale == 1.0 else [*stated, self.noise_scale]


@dataclass(frozen=True)
class Flow(_Straight):
    r"""Rectified flow on 1000 levels, shifted towards noise (SD 3, arXiv 2403.03206, equation 23): SD 3, Wan, Lumina 2.

    .. math:: \sigma(t) = \frac{k t}{1 + (k - 1) t}, \quad t = 1/1000, 2/1000 \dots 1
    """

    shift: float = 1.0
    unit: float = 1.0
    """Of time, in which steps are spaced: 1000 for SD 3, HiDream, Wan, Hunyuan Video. It decides the last digits of
    levels."""

    def identity(self) -> list[Any]:
        return self._with_scale(["Flow", self.shift, self.unit])

    def table(self) -> Tensor:
        return _flow_table(self)

    def times(self, count: int) -> Tensor:
        return _evenly(self.table()[[-1, 0]] * self.unit, count) / self.unit

    def sigma(self, time: Tensor) -> Tensor:
        return self.shift * time / (1 + (self.shift - 1) * time)

    def at(self, percent: float) -> float:
        if not 0 < percent < 1:
            return 1.0 if percent <= 0 else 0.0
        time = 1 - percent
        return self.shift * time / (1 + (self.shift - 1) * time)


@dataclass(frozen=True)
class FluxFlow(_Straight):
    r"""Rectified flow on 10,000 levels: FLUX (shift e^mu in the form of `Flow`), Qwen-Image, Chroma.

    .. math:: \sigma(t) = \frac{e^\mu}{e^\mu + 1 / t - 1}
    """

    mu: float = 1.15

    def identity(self) -> list[Any]:
        return self._with_scale(["FluxFlow", self.mu])

    @staticmethod
    def for_size(width: int, height: int, base_shift: float = 0.5, max_shift: float = 1.15) -> FluxFlow:
        r"""For an image of these pixels: mu rises linearly from `base_shift` at 256 tokens (of 16 x 16 pixels) to
        `max_shift` at 4096, and on."""
        slope = (max_shift - base_shift) / (4096 - 256)
        return FluxFlow(width * height / (8 * 8 * 2 * 2) * slope + (base_shift - slope * 256))

    def table(self) -> Tensor:
        return _flow_table(self)

    def sigma(self, time: Tensor) -> Tensor:
        return math.exp(self.mu) / (math.exp(self.mu) + (1 / time - 1))

    def at(self, percent: float) -> float:
        if not 0 < percent < 1:
            return 1.0 if percent <= 0 else 0.0
        return math.exp(self.mu) / (math.exp(self.mu) + (1 / (1 - percent) - 1))


def noise_scale_of(prediction: Prediction) -> float:
    """The deviation of the noise that a flow model was trained with; 1 for all others."""
    return prediction.noise_scale if isinstance(prediction, _Straight) else 1.0


@lru_cache(maxsize=64)
def _flow_table(flow: Flow | FluxFlow) -> Tensor:
    import torch

    count = 1000 if isinstance(flow, Flow) else 10000
    return flow.sigma(torch.arange(1, count + 1) / count)


def _evenly(ends: Tensor, count: int) -> Tensor:
    import torch

    first, last = ends.tolist()
    return torch.linspace(first, last, count)


def _ones(sigma: Any) -> Tensor:
    import torch

    return torch.ones_like(torch.as_tensor(sigma, dtype=torch.float32))
