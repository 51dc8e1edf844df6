"""The VAE of FLUX.2 at work: how it is built, and one image or latent through it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor

from ...model.config import Config
from .unet_network import plain

__all__ = ["build", "decode", "draws_noise", "encode"]


def build(config: Config) -> AutoencoderKLFlux2:
    """An empty VAE, from the arguments of its class."""
    kind: Any = AutoencoderKLFlux2
    arguments = {name: value for name, value in plain(config).items() if name != "inner_quant_conv"}
    with torch.device("meta"):
        module: Any = kind(**arguments)
    module.bn.num_batches_tracked = torch.tensor(0)  # a count of training, which files may lack
    found: AutoencoderKLFlux2 = module
    return found


def decode(module: Any, latent: Tensor) -> Tensor:
    """[4 C, h, w] of mean 0 and variance 1 -> float32 [16 h, 16 w, 3] in 0..1."""
    mean, deviation = _statistics(module)
    z = latent.to(mean) * deviation + mean
    channels, height, width = z.shape
    cells = z.reshape(channels // 4, 2, 2, height, width).permute(0, 3, 1, 4, 2)
    image: Tensor = module.decode(cells.reshape(1, channels // 4, 2 * height, 2 * width)).sample
    return ((image[0].float() + 1) / 2).clamp(0, 1).movedim(0, -1)


def draws_noise(module: Any) -> bool:
    return False


def encode(module: Any, image: Tensor) -> Tensor:
    """[H, W, 3] in 0..1 -> the mean of the posterior, float32 [4 C, h, w], of mean 0 and variance 1."""
    x = image.movedim(-1, 0)[None] * 2 - 1
    z: Tensor = module.encode(x.to(module.device, module.dtype)).latent_dist.mean[0]
    channels, height, width = z.shape
    cells = z.reshape(channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3)
    mean, deviation = _statistics(module)
    return ((cells.reshape(4 * channels, height // 2, width // 2) - mean) / deviation).float()


def _statistics(module: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, [4 C, 1, 1]."""
    mean, variance = module.bn.running_mean, module.bn.running_var
    return mean[:, None, None], (variance + module.config.batch_norm_eps).sqrt()[:, None, None]
