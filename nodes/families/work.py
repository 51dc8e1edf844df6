r"""The memory that a network needs while it computes, estimated from its config and the size of the image.

Bytes are those of the tensors that are alive at the fullest moment. A U-Net keeps what its way down gives for its way
up; at the top an attention block has its hidden layer (8 c, gated) beside that:

.. math:: n s \Big( \sum_l (k + 1) c_l a_l + 14 \, c_0 a_0 \Big), \quad a_l = a_0 / 4^l

with n rows of s bytes a number, k layers a block, c channels and a cells at level l. A transformer has the tokens,
their three projections, and the hidden layer of one block: n s t (6 w + 2 f). A VAE has some tensors of its last blocks
at the size of the image. Measured by `benchmarks/cost.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..files.header import read_header
from ..files.quantised import weights_of
from ..model.config import Config
from ..model.family import part_config
from ..model.handles import Model, Vae, WeightsHandle
from ..model.latent import LatentFormat

__all__ = ["ImageSize", "decoder_work", "denoiser_work"]

TEXT = 256
"""Tokens of a prompt."""
KL, WAN = 5.5, 13.0
"""Tensors of the width of its last blocks but one that a VAE has at the size of the image at the fullest moment, what
convolutions reorder for themselves among them. Measured at 256 px on a CPU: 4.7 to 6.2 for AutoencoderKL; Wan's causal
convolutions copy their frames to pad them."""
LTX = 5.5
"""Tensors of the width of its last blocks that the VAE of LTX-Video has of all frames, at the size of its patches.
Counted in its class: 4.3 to 4.4 while it decodes a video of 97 frames, 5.4 while it encodes one."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Of images, in pixels, or of videos."""

    width: int
    height: int
    batch: int = 1
    frames: int = 1
    """Of each video."""

    def cells(self, format: LatentFormat) -> tuple[int, ...]:
        """The axes of a latent behind its channels."""
        sides = (self.height // format.factor, self.width // format.factor)
        if format.frames_are_batch:
            return (self.batch, *sides)
        return sides if format.axes == 2 else ((self.frames - 1) // format.time_factor + 1, *sides)


def denoiser_work(model: Model, size: ImageSize, rows: int, itemsize: int) -> int:
    """Bytes of one pass of so many rows."""
    format = model.latent
    cells = math.prod(size.cells(format))
    config = part_config(model.config, "denoiser")
    channels = config.get("block_out_channels")
    if channels:
        return int(rows * itemsize * _unet(config, cells))
    width, hidden = _widths(model, "denoiser")
    tokens = cells // _patch(config, format) ** 2 + TEXT
    return rows * itemsize * tokens * (6 * width + 2 * hidden)


def _patch(config: Config, format: LatentFormat) -> int:
    """Cells of a latent along the side of one token. Families that fill up odd sides state no `multiple`: their
    configs state the patch, or the channels of a token."""
    if format.patch:
        return format.patch
    stated = config.get("patch_size", 1)
    side = int(stated[-1] if isinstance(stated, list | tuple) else stated)
    channels = int(config.get("out_channels", config.get("in_channels", 0)))
    return max(format.multiple, side, math.isqrt(max(1, channels // format.channels)))


def decoder_work(vae: Vae, size: ImageSize, itemsize: int) -> int:
    """Bytes of one image or video through a VAE; they go one after the other. Of a video the frames of one latent frame
    are computed at a time, and those that are done are kept twice for a moment, where they are joined."""
    config = part_config(vae.config, "vae")
    channels, factors = config.get("block_out_channels"), config.get("upsample_factor")
    wide = channels[min(1, len(channels) - 1)] if channels else 2 * int(config.get("base_dim", 96))
    pixels = size.width * size.height
    at_once = min(size.frames, vae.latent.time_factor)
    if most := vae.latent.frames_at_once:
        at_once = -(-size.batch // -(-size.batch // most))
    kept = (size.batch * size.frames + (size.frames if size.frames > 1 else 0)) * 3 * 4 * pixels
    if factors:  # LTX-Video's: no frame is done before all are
        narrow = config.decoder_block_out_channels[0] // factors[0]
        return int(LTX * itemsize * narrow * size.frames * pixels / config.patch_size**2) + kept
    return int((KL if channels else WAN) * itemsize * wide * at_once * pixels) + kept


def _unet(config: Config, cells: int) -> float:
    channels, layers = config.block_out_channels, config.get("layers_per_block", 2)
    kept = 0.0
    for level, count in enumerate(channels):
        kept += (layers + 1) * count * cells / 4**level
    return kept + 14.0 * float(channels[0]) * cells


def _widths(handle: WeightsHandle, part: str) -> tuple[int, int]:
    """(width, hidden width) of a transformer, from the shapes of its weights."""
    source = handle.source(part)
    shapes = [
        info.shape
        for name, info in weights_of(read_header(Path(source.path))).items()
        if name.startswith(source.prefix) and len(info.shape) == 2
    ]
    width = Counter(shape[1] for shape in shapes).most_common(1)[0][0] if shapes else 0
    return width, max((shape[0] for shape in shapes if shape[1] == width), default=0)
