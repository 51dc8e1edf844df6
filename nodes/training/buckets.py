r"""Aspect buckets: images of unlike proportions are trained in sizes of about the same area, so that little is cut off.

A bucket has sides :math:`(a s, b s)` with a step s, and of all such sizes with at most :math:`r^2` pixels and sides of
at most :math:`r \sqrt{p}` that one is taken whose proportion is nearest to the image's, on a logarithmic scale.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from ..resampling import resize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bucket_of", "buckets", "cropped"]


@lru_cache(maxsize=64)
def buckets(resolution: int, step: int, longest: float) -> tuple[tuple[int, int], ...]:
    """All (width, height): multiples of `step`, each as high as the area of a square of `resolution` allows, with
    proportions of at most `longest`."""
    area, found = resolution * resolution, {(resolution // step * step,) * 2}
    for across in range(step, int(resolution * math.sqrt(longest)) + 1, step):
        down = area // across // step * step
        if down >= step and max(across / down, down / across) <= longest:
            found |= {(across, down), (down, across)}
    return tuple(sorted(found))


def bucket_of(width: int, height: int, resolution: int, step: int, longest: float) -> tuple[int, int]:
    """The bucket of an image; the larger of two that are as near."""
    wanted = math.log(width / height)
    return min(
        buckets(resolution, step, longest),
        key=lambda size: (abs(math.log(size[0] / size[1]) - wanted), -size[0] * size[1]),
    )


def cropped(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[1, H, W, 3] in 0..1 -> the middle of it in a size: the longer side is cut evenly, then it is resampled."""
    found: Tensor = resize(image.movedim(-1, 1), *size, method="lanczos", crop="center")
    return found.clamp(0, 1).movedim(1, -1).contiguous()
