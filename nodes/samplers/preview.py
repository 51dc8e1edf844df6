"""A quick look at a latent without the VAE: a linear map from its channels to red, green and blue."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from ..model.latent import LatentFormat

__all__ = ["preview_jpeg"]

LARGEST = 512
"""Pixels of the longer side, at most."""


def preview_jpeg(samples: Tensor, format: LatentFormat) -> bytes:
    """The first latent [B, C, h, w] (of a video its first frame), VAE unit, as a small JPEG."""
    first = samples[0].float().cpu()
    first = first if first.dim() == 3 else first[:, 0]
    rgb = torch.einsum("chw,cr->hwr", first, torch.tensor(format.preview)) + torch.tensor(format.preview_bias)
    pixels = ((rgb.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).numpy()
    factor = max(1, min(format.factor, LARGEST // max(pixels.shape[:2])))
    image = Image.fromarray(pixels).resize((pixels.shape[1] * factor, pixels.shape[0] * factor))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()
