"""Latents of two kinds that a model makes together, a video and its sound, as one tensor while they are sampled.

A LATENT with sound is that of its video, with a LATENT of the sound under `audio`. Samplers, guiders and their patches
take tensors of any shape: in a sampler the two lie flat one behind the other, and only the family takes them apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AUDIO", "Pair"]

AUDIO = "audio"
"""The key of the sound in a LATENT: a LATENT with samples [B, C, frames, bins], and perhaps a noise mask."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The shapes of a video and its sound, without the axis of the batch."""

    video: tuple[int, ...]
    """[C, frames, h, w]"""
    audio: tuple[int, ...]
    """[C, frames, bins]"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the two together."""
        return 1, 1, 1, math.prod(self.video) + math.prod(self.audio)

    def packed(self, video: Tensor, audio: Tensor) -> Tensor:
        """[B, *video] and [B, *audio] -> [B, *shape]."""
        import torch

        return torch.cat([video.flatten(1), audio.flatten(1)], dim=1).reshape(-1, *self.shape)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *shape] -> [B, *video] and [B, *audio]."""
        flat, count = x.flatten(1), math.prod(self.video)
        return flat[:, :count].reshape(-1, *self.video), flat[:, count:].reshape(-1, *self.audio)
