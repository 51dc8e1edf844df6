r"""Quick looks at latents of families whose colours nobody published: learned from what their VAE decodes.

The mean colour of a cell's pixels is nearly an affine map of the cell's channels v. When a VAE decodes what a sampler
has made, both sides are at hand, and the map is fitted by least squares with a ridge:

.. math:: W = (\Sigma_{vv} + \lambda I)^{-1} \Sigma_{vc}, \quad c \approx \bar c + (v - \bar v) W

So the first image of a process has no quick look, and those behind it have. Families whose latents have one unit have
one map (FLUX.1 and Z-Image; Qwen-Image and Wan). Nothing of it is in a result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import blake2b
from threading import Lock

import torch
from torch import Tensor

from ..model.latent import LatentFormat

__all__ = ["Looks", "looks"]

RIDGE = 1e-3
"""Of the mean variance of a channel."""
CELLS_A_CHANNEL = 4
"""So many cells have been seen for each unknown number of the map before it is used."""
REMEMBERED = 64
"""Latents of samplers that wait for their decoder."""
KEPT = 0.9
"""The share of what was seen before that counts on beside a new image."""


@dataclass(eq=False)
class Sums:
    """Sums over cells of (1, v, c), c in -1..1: float64 [1 + C + 3, 1 + C + 3]."""

    products: Tensor

    def add(self, values: Tensor, colours: Tensor) -> None:
        """values [n, C], colours [n, 3]"""
        row = torch.cat([torch.ones(len(values), 1, dtype=torch.float64), values, colours], dim=1)
        self.products = KEPT * self.products + row.T @ row

    def fitted(self) -> tuple[Tensor, Tensor] | None:
        """(W [C, 3], bias [3]); None where too few cells were seen."""
        count, channels = float(self.products[0, 0]), len(self.products) - 4
        if count < CELLS_A_CHANNEL * (channels + 1):
            return None
        mean = self.products[0, 1:] / count
        spread = self.products[1:, 1:] / count - mean[:, None] * mean
        values = spread[:channels, :channels]
        ridge = RIDGE * values.diagonal().mean().clamp(min=1e-12) * torch.eye(channels, dtype=torch.float64)
        weights = torch.linalg.solve(values + ridge, spread[:channels, channels:])
        return weights, mean[channels:] - mean[:channels] @ weights


@dataclass(eq=False)
class Looks:
    """What is known in a process of the colours of latents."""

    _made: OrderedDict[bytes, LatentFormat] = field(default_factory=OrderedDict)
    """The digest of a latent that a sampler made -> its format, the newest last."""
    _sums: dict[Hashable, Sums] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def note(self, samples: Tensor, format: LatentFormat) -> None:
        """A sampler made a latent [B, C, (frames,) h, w] of a format, VAE unit."""
        if format.preview:
            return
        digest = _digest_of(_first(samples))
        with self._lock:
            self._made[digest] = format
            while len(self._made) > REMEMBERED:
                self._made.popitem(last=False)

    def learn(self, samples: Tensor, images: Tensor) -> None:
        """A VAE decoded a latent into images [N, H, W, 3 or more] in 0..1, of videos all frames. Of a latent that no
        sampler of this process made nothing is learned."""
        first = _first(samples)
        with self._lock:
            format = self._made.get(_digest_of(first)) if self._made else None
        if format is None:
            return
        channels, height, width = first.shape
        if images.shape[1:3] != (height * format.factor, width * format.factor) or not first.isfinite().all():
            return
        cells = images[0, :, :, :3].double().reshape(height, format.factor, width, format.factor, 3).mean(dim=(1, 3))
        with self._lock:
            empty = Sums(torch.zeros(channels + 4, channels + 4, dtype=torch.float64))
            sums = self._sums.setdefault(_unit_of(format), empty)
            sums.add(first.double().flatten(1).T, 2 * cells.reshape(-1, 3) - 1)

    def known(self, format: LatentFormat) -> LatentFormat:
        """The format with the colours of its channels, if they are published or were learned."""
        if format.preview:
            return format
        with self._lock:
            sums = self._sums.get(_unit_of(format))
            found = sums.fitted() if sums is not None else None
        if found is None:
            return format
        red_green_blue = [tuple(row) for row in found[0].tolist()]
        bias = found[1].tolist()
        return replace(format, preview=tuple(red_green_blue), preview_bias=(bias[0], bias[1], bias[2]))


def _first(samples: Tensor) -> Tensor:
    """Of a batch the first latent, and its first frame: [C, h, w]."""
    return samples[0] if samples.dim() == 4 else samples[0, :, 0]


def _digest_of(latent: Tensor) -> bytes:
    numbers = latent.detach().float().cpu().contiguous().numpy()
    return blake2b(numbers.tobytes(), digest_size=16, key=str(latent.shape).encode()[:64]).digest()


def _unit_of(format: LatentFormat) -> Hashable:
    """Latents whose numbers mean the same have the same."""
    return format.channels, format.factor, format.axes, format.scale, format.shift


@cache
def looks() -> Looks:
    """Those of this process."""
    return Looks()
