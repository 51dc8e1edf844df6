"""Pictures <-> latents, in the unit of the LATENT socket (what the VAE itself works on)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .handles import Vae

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["decode", "encode"]


@torch.inference_mode()
def decode(pool: Pool, vae: Vae, samples: Tensor) -> Tensor:
    """[B,4,h,w] -> float32 [B,8h,8w,3] in 0..1; one at a time, which bounds the memory."""
    model = pool.vae(vae)
    pictures = [model.decode(latent[None].to(pool.device)).sample.float().cpu() for latent in samples]
    return ((torch.cat(pictures) + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


@torch.inference_mode()
def encode(pool: Pool, vae: Vae, pictures: Tensor) -> Tensor:
    """float32 [B,H,W,3] in 0..1 -> [B,4,H/8,W/8]: the mean of the posterior."""
    model = pool.vae(vae)
    x = pictures.movedim(-1, 1) * 2 - 1
    return torch.cat([model.encode(picture[None].to(pool.device)).latent_dist.mean.float().cpu() for picture in x])
