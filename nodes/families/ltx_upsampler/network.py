"""A latent upscaler at work: how it is built, and latents through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from torch import Tensor

from ...model.config import Config
from ..kits.empty import EmptyParameters
from ..kits.ltx_vae_network import Statistics, normalised, unnormalised
from ..kits.unet_network import plain

__all__ = ["build", "upsampled"]


def build(config: Config) -> torch.nn.Module:
    """An empty network, from the arguments of its class."""
    kind: Any = LTX2LatentUpsamplerModel if "rational_spatial_scale" in config else LTXLatentUpsamplerModel
    with EmptyParameters():
        module: torch.nn.Module = kind(**plain(config))
    return module


@torch.inference_mode()
def upsampled(module: Any, statistics: Statistics, samples: Tensor) -> Tensor:
    """[B, C, frames, h, w], normalised -> larger, normalised, float32, on the CPU; one video after the other."""
    found = []
    for latent in samples:
        x = unnormalised(statistics, latent[None]).to(module.device, module.dtype)
        found.append(normalised(statistics, module(x).float().cpu()))
    return torch.cat(found)
