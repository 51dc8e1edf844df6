"""The U-Net of SDXL and its refiner: that of Stable Diffusion, with a vector of the pooled text and the image's sizes.

The vector is the pooled text, then each number as 256 sines and cosines, in the order height, width, crop from the top,
crop from the left, then for SDXL the height and width to aim at, for the refiner the aesthetic score (arXiv 2307.01952,
section 2.2).
"""

from __future__ import annotations

import torch

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Entry
from ..kits.unet import is_refiner
from ..kits.unet_network import PreparedUNet, back, forward, prepare_for, row
from .images import pooled_of_images

__all__ = ["back", "forward", "prepare", "row"]

SCORE, NEGATIVE_SCORE = 6.0, 2.5
"""The aesthetic score where a conditioning states none: of what is wanted, and of what is not."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedUNet:
    if entry.pooled is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_pooled",
                    "SDXL needs a pooled text, and the conditioning has none",
                    hint="encode the prompt with SDXL's own text encoders",
                )
            ]
        )
    given, factor = entry.extra, config.latent.factor
    height, width = (given.get(name, side * factor) for name, side in zip(("height", "width"), shape[-2:], strict=True))
    sizes = [height, width, given.get("crop_h", 0), given.get("crop_w", 0)]
    if is_refiner(config.denoiser):
        sizes.append(given.get("aesthetic_score", NEGATIVE_SCORE if entry.negative else SCORE))
    else:
        sizes += [given.get("target_height", height), given.get("target_width", width)]
    pooled, images = entry.pooled.float(), given.get("unclip_conditioning")
    if images:
        pooled = pooled_of_images(images, len(pooled))
    vectors = {"pooled": pooled, "sizes": torch.tensor(sizes, dtype=torch.float32)}
    return prepare_for(config, entry, shape, vectors)
