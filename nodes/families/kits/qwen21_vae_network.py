"""The VAE of Qwen-Image 2.1 at work: how it is built, and one image or latent through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage21
from torch import Tensor

from ...model.config import Config
from .unet_network import plain

__all__ = ["build", "decode", "draws_noise", "encode"]


def build(config: Config) -> AutoencoderKLQwenImage21:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLQwenImage21
    with torch.device("meta"):
        module: AutoencoderKLQwenImage21 = kind(**plain(config))
    return module


def decode(module: Any, latent: Tensor) -> Tensor:
    """[C, h, w], VAE unit -> float32 [H, W, 4] in 0..1."""
    image: Tensor = module.decode(latent[None, :, None].to(module.device, module.dtype)).sample
    return ((image[0, :, 0].float() + 1) / 2).clamp(0, 1).movedim(0, -1)


def draws_noise(module: Any) -> bool:
    return False


def encode(module: Any, image: Tensor) -> Tensor:
    """[H, W, 3 or 4] in 0..1 -> the mean of the posterior, float32 [C, h, w], VAE unit.

    An image without an alpha channel is opaque.
    """
    channels = module.config.in_channels
    if image.shape[-1] < channels:
        image = torch.cat([image, torch.ones_like(image[..., :1])], dim=-1)
    x = image[..., :channels].movedim(-1, 0)[None, :, None] * 2 - 1
    mean: Tensor = module.encode(x.to(module.device, module.dtype)).latent_dist.mean
    return mean[0, :, 0].float()
