r"""Edges of images (J. Canny, A Computational Approach to Edge Detection, IEEE PAMI 8, 1986).

Grey values are blurred (5 x 5, deviation 1); Sobel's filters give the slopes :math:`g_x, g_y`. A pixel is on an edge
where
:math:`\sqrt{g_x^2 + g_y^2}` is larger than at both neighbours along the slope, whose direction is rounded to eighths of
a circle. Of these, strong pixels are kept, and weak ones that are joined to a strong one by others.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

__all__ = ["edges"]

GREY = (0.299, 0.587, 0.114)
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""(down, right) of the neighbour in each eighth of a circle, from the right over the bottom."""
TINY = 1e-6


def edges(images: Tensor, low: float, high: float) -> Tensor:
    """float32 [B, H, W, 3 or 4] in 0..1 -> [B, H, W], 1 on an edge and 0 elsewhere."""
    grey = (images[..., :3].float() * torch.tensor(GREY)).sum(-1)[:, None]
    steepness, direction = _slopes(_blurred(grey))
    thin = steepness * _is_ridge(steepness, direction)
    return torch.stack([_joined(one, low, high) for one in thin[:, 0]])


def _blurred(grey: Tensor) -> Tensor:
    places = torch.arange(-2.0, 3.0)
    weights = torch.exp(-(places**2) / 2)
    weights = weights / weights.sum()
    mode = "reflect" if min(grey.shape[-2:]) > 2 else "replicate"
    padded = F.pad(grey, (2, 2, 2, 2), mode=mode)
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, 5)), weights.view(1, 1, 5, 1))


def _slopes(grey: Tensor) -> tuple[Tensor, Tensor]:
    """How steep, and which of the eight directions upwards."""
    right = torch.tensor(SOBEL)
    kernels = torch.stack([right, right.T])[:, None]
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    across, down = slopes[:, :1], slopes[:, 1:]
    eighths = torch.round(torch.atan2(down, across) * (4 / math.pi)).long() % 8
    return (across**2 + down**2 + TINY).sqrt(), eighths


def _is_ridge(steepness: Tensor, direction: Tensor) -> Tensor:
    padded = F.pad(steepness, (1, 1, 1, 1))
    height, width = steepness.shape[-2:]
    around = torch.cat([padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in AROUND], 1)
    ahead = around.gather(1, direction)
    behind = around.gather(1, (direction + 4) % 8)
    return (steepness > ahead) & (steepness > behind)


def _joined(thin: Tensor, low: float, high: float) -> Tensor:
    """[H, W]: all weak pixels of each connected group that has a strong one."""
    found = thin.numpy()
    groups, _ = ndimage.label(found > low, structure=np.ones((3, 3)))
    kept = np.unique(groups[found > high])
    return torch.from_numpy(np.isin(groups, kept[kept > 0]).astype(np.float32))
