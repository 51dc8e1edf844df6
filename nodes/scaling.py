"""Resampling of pictures and latents, with the crop of the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("nearest-exact", "bilinear", "area", "bicubic")
CROPS = ("disabled", "center")


def resize(x: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Resample [B,C,H,W] to a width and height; `center` cuts to the new proportions first."""
    from torch.nn import functional as F

    if crop == "center":
        old_height, old_width = x.shape[-2:]
        if old_width * height > old_height * width:
            keep = round(old_height * width / height)
            left = (old_width - keep) // 2
            x = x[..., left : left + keep]
        else:
            keep = round(old_width * height / width)
            top = (old_height - keep) // 2
            x = x[..., top : top + keep, :]
    if method == "lanczos":
        return _lanczos(x, width, height)
    return F.interpolate(x, size=(height, width), mode=method)


def _lanczos(x: Tensor, width: int, height: int) -> Tensor:
    """Through Pillow in 8 bits, as the field does it, but channel by channel, so that a mask goes as well."""
    import numpy as np
    import torch
    from PIL import Image

    planes = (255.0 * x.reshape(-1, *x.shape[-2:]).clamp(0, 1)).to(torch.uint8).numpy()
    resized = [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.LANCZOS)) for p in planes]
    return torch.from_numpy(np.stack(resized)).to(torch.float32).div(255.0).reshape(*x.shape[:2], height, width)


def missing_side(width: int, height: int, old_width: int, old_height: int) -> tuple[int, int]:
    """A side of 0 follows from the other and the old proportions."""
    if width == 0:
        width = max(1, round(old_width * height / old_height))
    elif height == 0:
        height = max(1, round(old_height * width / old_width))
    return width, height
