"""The VAE of LTX-2 at work: as that of LTX-Video (ltx_vae_network.py), without a time and without noise."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Video

from ...model.config import Config
from .ltx_vae_network import decode, draws_noise, encode
from .unet_network import plain

__all__ = ["build", "decode", "draws_noise", "encode"]


def build(config: Config) -> AutoencoderKLLTX2Video:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLLTX2Video
    with torch.device("meta"):
        module: AutoencoderKLLTX2Video = kind(**plain(config))
    return module
