"""Pictures <-> latents, in the unit of the LATENT socket (what the VAE itself works on)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .handles import Vae

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["decode", "encode", "encode_cut"]


def decode(pool: Pool, vae: Vae, samples: Tensor) -> Tensor:
    """[B,4,h,w] -> float32 [B,8h,8w,3] in 0..1; one at a time, which bounds the memory."""
    return pool.run(_decode, pool.vae(vae), pool.device, samples)


@torch.inference_mode()
def _decode(model: Any, device: torch.device, samples: Tensor) -> Tensor:
    pictures = [model.decode(latent[None].to(device)).sample.float().cpu() for latent in samples]
    return ((torch.cat(pictures) + 1) / 2).clamp(0, 1).movedim(1, -1).contiguous()


def encode(pool: Pool, vae: Vae, pictures: Tensor) -> Tensor:
    """float32 [B,H,W,3] in 0..1 -> [B,4,H/8,W/8]: the mean of the posterior."""
    return pool.run(_encode, pool.vae(vae), pool.device, pictures)


def encode_cut(pool: Pool, vae: Vae, pictures: Tensor) -> Tensor:
    """As `encode`, of [B,H,W,3 or more]: sides that are no multiple of 8 are cut, evenly on both sides."""
    height, width = (pictures.shape[1] // 8) * 8, (pictures.shape[2] // 8) * 8
    top, left = (pictures.shape[1] % 8) // 2, (pictures.shape[2] % 8) // 2
    return encode(pool, vae, pictures[:, top : top + height, left : left + width, :3])


@torch.inference_mode()
def _encode(model: Any, device: torch.device, pictures: Tensor) -> Tensor:
    x = pictures.movedim(-1, 1) * 2 - 1
    return torch.cat([model.encode(picture[None].to(device)).latent_dist.mean.float().cpu() for picture in x])
