"""AutoencoderKL at work: how it is built, and one image or latent through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ...model.config import Config
from .kl_vae_tiles import decode_in_tiles, encode_in_tiles, fits_exactly
from .unet_network import plain

__all__ = ["build", "decode", "decode_in_tiles", "draws_noise", "encode", "encode_in_tiles", "fits_exactly"]


def build(config: Config) -> AutoencoderKL:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKL
    with torch.device("meta"):
        module: AutoencoderKL = kind.from_config(plain(config))
    return module


def decode(module: Any, latent: Tensor) -> Tensor:
    """[C, h, w], VAE unit -> float32 [H, W, 3] in 0..1."""
    image: Tensor = module.decode(latent[None].to(module.device, module.dtype)).sample
    return ((image[0].float() + 1) / 2).clamp(0, 1).movedim(0, -1)


def draws_noise(module: Any) -> bool:
    return False


def encode(module: Any, image: Tensor) -> Tensor:
    """[H, W, 3] in 0..1 -> the mean of the posterior, float32 [C, h, w], VAE unit."""
    x = image.movedim(-1, 0)[None] * 2 - 1
    mean: Tensor = module.encode(x.to(module.device, module.dtype)).latent_dist.mean
    return mean[0].float()
