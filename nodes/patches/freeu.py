r"""FreeU (arXiv 2309.11497): in the half of a U-Net that goes up, what comes from below is made stronger, and the low
frequencies of what comes from the side weaker.

For h from below, of four times (b, s = b_1, s_1) or twice (b_2, s_2) the channels of the first level, and y from the
side:

.. math:: h_{1..C/2} \leftarrow b \, h_{1..C/2}, \qquad y \leftarrow \mathcal F^{-1}(m \, \mathcal F(y)),
          \quad m = s \text{ at the lowest frequencies, else } 1

In the second version b is :math:`1 + (b - 1) \, n` at each place, n being the mean over the channels of h, scaled to
0..1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.patch import CallPatch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["FreeU", "check_unet"]


@dataclass(frozen=True)
class FreeU(CallPatch):
    """See above."""

    b: tuple[float, float]
    s: tuple[float, float]
    version: int = 1

    def identity(self) -> Any:
        return ["free_u", self.version, list(self.b), list(self.s)]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        unet: Any = module
        widths = unet.config.block_out_channels
        factors = {widths[0] * 4: (self.b[0], self.s[0]), widths[0] * 2: (self.b[1], self.s[1])}
        hooks = []
        for level, block in enumerate(unet.up_blocks):
            for layer, resnet in enumerate(block.resnets):
                channels = widths[-1 - max(level - 1, 0)] if layer == 0 else widths[-1 - level]
                if channels in factors:
                    hooks.append(resnet.register_forward_pre_hook(partial(self._before, channels, *factors[channels])))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, channels: int, b: float, s: float, resnet: Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """A residual block is given both side by side: [N, channels from below + those from the side, h, w]."""
        import torch

        joined: Tensor = given[0]
        below, beside = joined[:, :channels], joined[:, channels:]
        half = channels // 2
        factor = b if self.version == 1 else 1.0 + (b - 1.0) * _scaled_mean(below)
        return (torch.cat([below[:, :half] * factor, below[:, half:], _filtered(beside, s)], dim=1), *given[1:])


def _scaled_mean(h: Tensor) -> Tensor:
    """[N, C, h, w] -> [N, 1, h, w] in 0..1"""
    mean = h.mean(1, keepdim=True)
    least, most = mean.amin((1, 2, 3), keepdim=True), mean.amax((1, 2, 3), keepdim=True)
    return (mean - least) / (most - least).clamp(min=1e-12)


def _filtered(y: Tensor, s: float) -> Tensor:
    """The four lowest frequencies, -1 and 0 along each side, times s."""
    import torch

    spectrum = torch.fft.fftn(y.float(), dim=(-2, -1))
    low = torch.tensor((0, -1))
    mask = torch.ones(y.shape[-2:], device=y.device)
    mask[low[:, None] % y.shape[-2], low % y.shape[-1]] = s
    filtered: Tensor = torch.fft.ifftn(spectrum * mask, dim=(-2, -1)).real.to(y.dtype)
    return filtered


def check_unet(model: Model, what: str) -> None:
    """Raises a Problem where the model is not a U-Net of Stable Diffusion."""
    if "up_blocks.*" not in model.family.ports.blocks:
        raise GraphFlowError(
            [
                Problem(
                    "no_port",
                    f"{what} changes the half of a U-Net that goes up, which {model.family.title} does not have",
                    input="model",
                    hint="leave the node out, or use a U-Net (Stable Diffusion 1.x, 2.x, XL)",
                )
            ]
        )
