"""Pictures <-> latents, in the unit of the LATENT socket (what the VAE itself works on)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from .handles import Vae

if TYPE_CHECKING:
    from ..devices.pool import Pool

__all__ = ["decode", "encode", "encode_cut", "whole_cells"]


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
    rows, columns = whole_cells(pictures)
    return encode(pool, vae, pictures[:, rows, columns, :3])


def whole_cells(pictures: Tensor) -> tuple[slice, slice]:
    """The rows and columns of [B,H,W,C] that make whole cells of a latent, 8 pixels a side, from the middle.

    Raises a Problem where there is not one.
    """
    height, width = pictures.shape[1:3]
    if height < 8 or width < 8:
        raise GraphFlowError([Problem("too_small", f"the picture is {width} x {height} pixels, a latent needs 8 x 8",
                                      input="pixels", hint="make it larger first, with ImageScale")])  # fmt: skip
    top, left = (height % 8) // 2, (width % 8) // 2
    return slice(top, top + height // 8 * 8), slice(left, left + width // 8 * 8)


@torch.inference_mode()
def _encode(model: Any, device: torch.device, pictures: Tensor) -> Tensor:
    x = pictures.movedim(-1, 1) * 2 - 1
    return torch.cat([model.encode(picture[None].to(device)).latent_dist.mean.float().cpu() for picture in x])
