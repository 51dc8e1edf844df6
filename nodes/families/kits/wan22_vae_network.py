"""The VAE of Wan 2.2 at work: how it is built, and one image, video or latent through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from ...model.config import Config
from . import wan_vae_network
from .unet_network import plain

__all__ = ["build", "decode", "draws_noise", "encode"]

decode, draws_noise = wan_vae_network.decode, wan_vae_network.draws_noise


def build(config: Config) -> AutoencoderKLWan:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLWan
    with torch.device("meta"):
        module: AutoencoderKLWan = kind(**plain(config))
    return module


def encode(module: Any, image: Tensor) -> Tensor:
    """[H, W, 3] in 0..1, or the frames of a video [frames, H, W, 3] -> the mean of the posterior, float32 [C, latent
    frames, h, w], VAE unit."""
    frames = image if image.dim() == 4 else image[None]
    x = frames[..., :3].movedim(-1, 0)[None] * 2 - 1
    mean: Tensor = module.encode(x.to(module.device, module.dtype)).latent_dist.mean
    return mean[0].float()
