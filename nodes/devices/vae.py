"""Between images and latents: any kind of VAE, one item at a time, which bounds the memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.handles import Vae
from .use import Device

__all__ = ["check_channels", "decode", "encode", "encode_cut", "whole_cells"]


def decode(device: Device, vae: Vae, samples: Tensor) -> Tensor:
    """[B, C, h, w] -> float32 [B, H, W, 3] in 0..1; of [B, C, frames, h, w] all frames of all videos, one after
    another.

    Raises a Problem where the latent has other channels than the VAE.
    """
    check_channels(vae, samples)
    with device.use(vae, "vae") as part:
        images = [device.run(_decode, vae, part.module, latent) for latent in samples]
    return torch.cat([image if image.dim() == 4 else image[None] for image in images]).contiguous()


def check_channels(vae: Vae, samples: Tensor) -> None:
    """Raises a Problem where a latent has other channels than the VAE."""
    channels = vae.latent.channels
    if samples.shape[1] != channels:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the latent has {samples.shape[1]} channels, this VAE ({vae.family.title}) takes {channels}",
                    input="samples",
                    hint="use the VAE of the model that made the latent",
                )
            ]
        )


def _decode(vae: Vae, module: Any, latent: Tensor) -> Tensor:
    image: Tensor = vae.family.codec.decode(module, latent)
    return image.float().cpu()


def encode(device: Device, vae: Vae, images: Tensor) -> Tensor:
    """float32 [B, H, W, 3] in 0..1, sides multiples of the VAE's factor -> [B, C, h, w]: the mean of the posterior."""
    with device.use(vae, "vae") as part:
        return torch.stack([device.run(_encode, vae, part.module, image) for image in images])


def _encode(vae: Vae, module: Any, image: Tensor) -> Tensor:
    latent: Tensor = vae.family.codec.encode(module, image)
    return latent.float().cpu()


def encode_cut(device: Device, vae: Vae, images: Tensor) -> Tensor:
    """As `encode`, of [B, H, W, 3 or more]: sides that are not multiples of the factor are cut, evenly on both sides.

    Only a VAE of images with an alpha channel sees theirs.
    """
    rows, columns = whole_cells(images, vae.latent.factor)
    return encode(
        device, vae, images[:, rows, columns, : vae.config.get("input_channels", vae.config.get("in_channels", 3))]
    )


def whole_cells(images: Tensor, factor: int) -> tuple[slice, slice]:
    """The rows and columns of [B, H, W, C] that make whole cells of a latent, `factor` pixels a side, from the middle.

    Raises a Problem where there is not one.
    """
    height, width = images.shape[1:3]
    if height < factor or width < factor:
        raise GraphFlowError(
            [
                Problem(
                    "too_small",
                    f"the image is {width} x {height} pixels, a latent needs {factor} x {factor}",
                    input="pixels",
                    hint="make it larger first, with ImageScale",
                )
            ]
        )
    top, left = (height % factor) // 2, (width % factor) // 2
    return slice(top, top + height // factor * factor), slice(left, left + width // factor * factor)
