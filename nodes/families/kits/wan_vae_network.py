"""The VAE of Wan 2.1 and Qwen-Image at work: how it is built, and one image or latent through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from ...model.config import Config
from .unet_network import plain

__all__ = ["build", "decode", "draws_noise", "encode"]


def build(config: Config) -> AutoencoderKLQwenImage:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLQwenImage
    with torch.device("meta"):
        module: AutoencoderKLQwenImage = kind.from_config(plain(config))
    return module


def decode(module: Any, latent: Tensor) -> Tensor:
    """[C, frames, h, w], VAE unit -> float32 [frames, H, W, 3 or 4] in 0..1; [C, h, w] is one frame."""
    latent = latent if latent.dim() == 4 else latent[:, None]
    image: Tensor = module.decode(latent[None].to(module.device, module.dtype)).sample
    return ((image[0].float() + 1) / 2).clamp(0, 1).movedim(0, -1)


def draws_noise(module: Any) -> bool:
    return False


def encode(module: Any, image: Tensor) -> Tensor:
    """[H, W, 3 or 4] in 0..1, or the frames of a video [frames, H, W, 3 or 4] -> the mean of the posterior, float32
    [C, latent frames, h, w], VAE unit.

    A VAE with an alpha channel sees an image without one as opaque.
    """
    channels = module.config.input_channels
    frames = image if image.dim() == 4 else image[None]
    if frames.shape[-1] < channels:
        frames = torch.cat([frames, torch.ones_like(frames[..., :1])], dim=-1)
    x = frames[..., :channels].movedim(-1, 0)[None] * 2 - 1
    mean: Tensor = module.encode(x.to(module.device, module.dtype)).latent_dist.mean
    return mean[0].float()
