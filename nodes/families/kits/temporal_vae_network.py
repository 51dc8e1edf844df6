"""AutoencoderKLTemporalDecoder at work: how it is built, and one image or the frames of a video through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor

from ...model.config import Config
from .kl_vae_network import draws_noise, encode
from .unet_network import plain

__all__ = ["build", "decode", "draws_noise", "encode"]


def build(config: Config) -> AutoencoderKLTemporalDecoder:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLTemporalDecoder
    arguments = plain(config)
    has_quant_conv = arguments.pop("use_quant_conv")
    with torch.device("meta"):
        module = kind.from_config(arguments)
    if not has_quant_conv:
        module.quant_conv = torch.nn.Identity()
    made: AutoencoderKLTemporalDecoder = module
    return made


def decode(module: Any, latent: Tensor) -> Tensor:
    """[frames, C, h, w], VAE unit -> float32 [frames, H, W, 3] in 0..1; [C, h, w] is one frame."""
    latent = latent if latent.dim() == 4 else latent[None]
    frames: Tensor = module.decode(latent.to(module.device, module.dtype), num_frames=len(latent)).sample
    return ((frames.float() + 1) / 2).clamp(0, 1).movedim(1, -1)
