"""Images as rows of patches, as the vision towers of Qwen2.5-VL and Qwen3-VL take them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...model.config import Config

__all__ = ["patches_of", "sides_within", "spread_tokens"]


def patches_of(
    image: Tensor, vision: Config, sides: tuple[int, int], mean: Sequence[float], deviation: Sequence[float]
) -> tuple[Tensor, tuple[int, int]]:
    """An image [H, W, 3] as rows of patches, and how many there are down and across.

    It is brought to `sides` (height, width) first: multiples of a patch times what is merged.
    """
    patch, merged, depth = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    x = image[..., :3].float().cpu().movedim(-1, 0)[None]
    if tuple(image.shape[:2]) != sides:
        x = interpolate(x, size=sides, mode="bilinear", align_corners=False)
    x = (x[0] - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    rows, columns = sides[0] // patch, sides[1] // patch
    x = x.reshape(3, rows // merged, merged, patch, columns // merged, merged, patch)
    x = x.permute(1, 4, 2, 5, 0, 3, 6)  # squares of merged patches stand together
    x = x[..., None, :, :].expand(*x.shape[:5], depth, patch, patch)  # a still image fills all frames of a patch
    return x.reshape(rows * columns, -1), (rows, columns)


def sides_within(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """Multiples of `factor`, nearest to the image's own sides, with no fewer pixels than `least` and no more than
    `most`."""
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > most:
        shrink = math.sqrt(height * width / most)
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < least:
        grow = math.sqrt(least / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide


def spread_tokens(ids: Sequence[int], image_token: int, counts: Sequence[int]) -> list[int]:
    """The ids with each image token repeated: as often as the image in its place has states."""
    left = iter(counts)
    return [token for one in ids for token in ([one] * next(left) if one == image_token else [one])]
