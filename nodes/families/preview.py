"""A quick look at a latent without the VAE: a linear map from its channels to red, green and blue."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .handles import Source

__all__ = ["preview_jpeg"]

LARGEST = 512
SD15 = ((0.064, 0.039, 0.037), (0.038, 0.036, 0.036), (-0.029, 0.042, 0.029), (-0.034, -0.026, -0.090))
"""Red, green and blue in -1..1 per unit of each of the four channels of Stable Diffusion 1.x, about."""


def preview_jpeg(samples: Tensor, source: Source) -> bytes:
    """The first latent [B,4,h,w] (in the unit of the LATENT socket) as a small JPEG."""
    weight, bias = _map(source)
    rgb = torch.einsum("chw,cr->hwr", samples[0].float().cpu(), weight) + bias
    pixels = ((rgb.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).numpy()
    factor = max(1, min(8, LARGEST // max(pixels.shape[:2])))
    picture = Image.fromarray(pixels).resize((pixels.shape[1] * factor, pixels.shape[0] * factor))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=80)
    return file.getvalue()


def _map(source: Source) -> tuple[Tensor, Tensor]:
    """A model folder may bring a map of its own, fitted to its VAE (`vae/preview.json`)."""
    path = Path(source.path) / "vae" / "preview.json"
    if source.kind == "diffusers" and path.is_file():
        stated = json.loads(path.read_text(encoding="utf-8"))
        return torch.tensor(stated["weight"]), torch.tensor(stated["bias"])
    return torch.tensor(SD15), torch.zeros(3)
