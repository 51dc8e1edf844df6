r"""Images in place of SDXL's pooled text (unCLIP, arXiv 2204.06125).

Each vector v of an image is under noise of a level l of 1000, on the cosine schedule (arXiv 2102.09672, equation 17):

.. math:: \hat v = \sqrt{\bar\alpha_l} \, v + \sqrt{1 - \bar\alpha_l} \, n

The sum of several, each times its strength, is put under noise once more. Noise is drawn from a fixed seed: a
conditioning means the same for every seed of a sampler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

__all__ = ["pooled_of_images"]

LEVELS, MOST = 1000, 0.999
MERGED = 0.05
"""How much noise the sum of several gets."""
SEED = 0


def pooled_of_images(images: Sequence[Mapping[str, Any]], width: int) -> Tensor:
    """The vector [D] that stands for the pooled text. Raises a Problem where an image's is not `width` wide."""
    generator = torch.Generator().manual_seed(SEED)
    vectors = []
    for image in images:
        for vector in image["embeds"].float():
            if len(vector) != width:
                raise GraphFlowError(
                    [
                        Problem(
                            "wrong_encoder",
                            f"the image encoder gives {len(vector)} numbers for an image, the model takes {width}",
                            hint="SDXL takes those of ViT-bigG (clip_vision_g)",
                        )
                    ]
                )
            vectors.append(image["strength"] * _noised(vector, image["noise_augmentation"], generator))
    total = torch.stack(vectors).sum(0)
    return _noised(total, MERGED, generator) if len(vectors) > 1 else total


def _noised(vector: Tensor, share: float, generator: torch.Generator) -> Tensor:
    kept = _signal(round((LEVELS - 1) * share))
    noise = torch.randn(vector.shape, generator=generator)
    noised: Tensor = kept**0.5 * vector + (1.0 - kept) ** 0.5 * noise
    return noised


def _signal(level: int) -> float:
    """The product of 1 - beta up to a level."""

    def at(share: float) -> float:
        return cos((share + 0.008) / 1.008 * pi / 2) ** 2

    product = 1.0
    for step in range(level + 1):
        product *= 1.0 - min(1.0 - at((step + 1) / LEVELS) / at(step / LEVELS), MOST)
    return product
