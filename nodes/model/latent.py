"""The latents of a family: their shape, and the unit in which the denoiser works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, dtype

__all__ = ["LatentFormat"]


@dataclass(frozen=True, slots=True)
class LatentFormat:
    r"""Shape and unit of latents. A LATENT wire holds the VAE's unit v, a denoiser works in the model's unit m:

    .. math:: m = (v - shift) \cdot scale

    `scale` and `shift` are numbers, or one number a channel (Latent Diffusion, arXiv 2112.10752, appendix G: unit
    variance).
    """

    channels: int
    factor: int = 8
    """Pixels of one cell, along a side."""
    axes: int = 2
    """2: [B, C, h, w]; 3: [B, C, frames, h, w]."""
    time_factor: int = 1
    """Frames of video of one latent frame, after the first."""
    frames_are_batch: bool = False
    """The latents of a batch [frames, C, h, w] are one video: a denoiser answers all of them in one row."""
    frames_at_once: int = 0
    """So many latents of a batch a VAE decodes at a time, as frames that see each other; 0: each by itself."""
    multiple: int = 1
    """Cells by which height and width must divide: the side of the denoiser's patches."""
    patch: int = 0
    """Cells along the side of one token where neither `multiple` nor the denoiser's config shows it; 0: they do."""
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    preview: tuple[tuple[float, float, float], ...] = ()
    """Red, green and blue in -1..1 for one unit of each channel of v, about; empty: no quick look."""
    preview_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def into(self, v: Tensor) -> Tensor:
        """VAE unit -> model unit, float32."""
        return (v.float() - self._by_channel(self.shift, v)) * self._by_channel(self.scale, v)

    def out(self, m: Tensor) -> Tensor:
        """Model unit -> VAE unit, float32."""
        return m.float() / self._by_channel(self.scale, m) + self._by_channel(self.shift, m)

    def shape(self, width: int, height: int, batch: int = 1, frames: int = 1) -> tuple[int, ...]:
        """The shape of the latent of an image or a video of these pixels."""
        cells = (height // self.factor, width // self.factor)
        if self.axes == 2:
            return (batch, self.channels, *cells)
        return (batch, self.channels, (frames - 1) // self.time_factor + 1, *cells)

    @staticmethod
    def _by_channel(value: float | Sequence[float], like: Tensor) -> Tensor | float:
        if isinstance(value, int | float):
            return value
        return like.new_tensor(value, dtype=_float32()).view(1, -1, *(1,) * (like.dim() - 2))


def _float32() -> dtype:
    import torch

    return torch.float32
