"""What the answer of a denoiser means: noise, velocity, the clean image or a flow; and which noise levels it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Prediction"]


@runtime_checkable
class Prediction(Protocol):
    """A frozen, hashable value. Levels are sigmas, float32; x and x0 are float32 in the model's unit, [..., C, h, w].

    Implementations: Epsilon, V, EDM, Flow, FluxFlow ... (below in this file; torch is imported in their methods).
    """

    def identity(self) -> Any:
        """Plain Python, equal for equal predictions on every machine."""

    def table(self) -> Tensor:
        """The noise levels that it knows, rising, float32."""

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    def time(self, sigma: Tensor) -> Tensor:
        """What the network takes as time: 0..999 for epsilon and v, sigma for flow; the shape of `sigma`."""

    def sigma(self, time: Tensor) -> Tensor:
        """The level at a time, between the levels of the table as well."""

    def at(self, percent: float) -> float:
        """The level at a share of the sampling: 0 is the noisiest (infinite), 1 the end (0)."""

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x as the network takes it."""

    def x0(self, x: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        """The clean latent that the network's answer `out` stands for, at x (not scaled)."""

    def noised(self, x0: Tensor, noise: Tensor, sigma: Tensor, max_denoise: bool = False) -> Tensor:
        """The forward process in closed form; `max_denoise`: the start of a whole run."""

    def unnoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What a sampler gives back of x where the last level is not 0 (leftover noise)."""

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the network is trained to answer."""
