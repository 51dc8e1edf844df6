"""Denoising only a part of a latent: the rest follows the forward process of what is there."""

from __future__ import annotations

from torch import Tensor

from .stepper import Denoise


def within_mask(denoise: Denoise, start: Tensor, noise: Tensor, mask: Tensor) -> Denoise:
    """The denoiser that leaves `start` [B,C,h,w] as it is where `mask` [B,1,h,w] is 0.

    There it sees x_0 + sigma noise and answers x_0 (RePaint, arXiv 2201.09865, equation 8, without its resampling).
    """

    def masked(x: Tensor, sigma: Tensor) -> Tensor:
        seen = mask * x + (1 - mask) * (start + sigma * noise)
        return mask * denoise(seen, sigma) + (1 - mask) * start

    return masked
