"""Resampling of images and latents, with ComfyUI's crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .limits import check_pixels

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("nearest-exact", "bilinear", "area", "bicubic")
CROPS = ("disabled", "center")


def resize(x: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resample [B,C,H,W] to a width and height; `center` cuts to the new proportions first."""
    from torch.nn import functional as F

    check_pixels(width, height, x.shape[0], x.shape[1])
    if crop == "center":
        x = _cut(x, width, height)
    if method == "lanczos":
        return _lanczos(x, width, height)
    if method == "bislerp":
        return _slerped(_slerped(x, width, -1), height, -2)
    return F.interpolate(x, size=(height, width), mode=method)


def _cut(x: Tensor, width: int, height: int) -> Tensor:
    """[B,C,H,W] without what is over in the longer side: round(surplus / 2) off each end, and at least a pixel is
    left."""
    old_height, old_width = x.shape[-2:]
    old_ratio, ratio = old_width / old_height, width / height
    across = round((old_width - old_width * (ratio / old_ratio)) / 2) if old_ratio > ratio else 0
    down = round((old_height - old_height * (old_ratio / ratio)) / 2) if old_ratio < ratio else 0
    across, down = min(across, (old_width - 1) // 2), min(down, (old_height - 1) // 2)
    return x[..., down : old_height - down, across : old_width - across]


def _lanczos(x: Tensor, width: int, height: int) -> Tensor:
    """[B,C,H,W] through Pillow in 8 bits, as ComfyUI does it. Colours are weighed by their alpha; masks go as well."""
    import numpy as np
    import torch
    from PIL import Image

    bytes_ = (255.0 * x.clamp(0, 1)).to(torch.uint8)
    if x.shape[1] == 4:
        images = list(bytes_.movedim(1, -1).contiguous().numpy())
    else:
        images = list(bytes_.reshape(-1, *x.shape[-2:]).numpy())
    resized = np.stack(
        [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)) for image in images]
    )
    found = torch.from_numpy(resized).to(torch.float32).div(255.0)
    return found.movedim(-1, 1) if x.shape[1] == 4 else found.reshape(*x.shape[:2], height, width)


def _slerped(x: Tensor, size: int, axis: int) -> Tensor:
    """One axis of [B,C,H,W] resampled between its two nearest places, on the arc between their channel vectors.

    The directions follow the great circle (Shoemake 1985), the lengths a straight line. Vectors that are nearly equal
    or nearly opposite have no such arc: there it is the first one, or the straight line.
    """
    import torch
    from torch.nn import functional as F

    old = x.shape[axis]
    place = F.interpolate(torch.arange(old, dtype=torch.float32)[None, None], size, mode="linear")[0, 0]
    before = place.floor().long()
    part = (place - before).reshape(-1, *[1] * (-1 - axis))
    a, b = x.index_select(axis, before), x.index_select(axis, (before + 1).clamp(max=old - 1))
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    unit_a, unit_b = torch.nan_to_num(a / length_a), torch.nan_to_num(b / length_b)
    cosine = (unit_a * unit_b).sum(1, keepdim=True)
    angle = cosine.clamp(-1.0, 1.0).acos()
    arc = (((1.0 - part) * angle).sin() * unit_a + (part * angle).sin() * unit_b) / angle.sin()
    mixed = arc * (length_a * (1.0 - part) + length_b * part)
    mixed = torch.where(cosine > 1.0 - 1e-5, a, mixed)
    return torch.where(cosine < 1e-5 - 1.0, a * (1.0 - part) + b * part, mixed)


def missing_side(width: int, height: int, old_width: int, old_height: int) -> tuple[int, int]:
    """A side of 0 follows from the other and the old proportions."""
    if width == 0:
        width = max(1, round(old_width * height / old_height))
    elif height == 0:
        height = max(1, round(old_height * width / old_width))
    return width, height
