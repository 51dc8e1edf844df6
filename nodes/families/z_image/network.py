"""Z-Image at work. Rows share a pass where their captions pad to the same number of tokens: the network pads by itself.

The time is 1 - sigma, and the answer is the negative velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.unet_network import plain

__all__ = ["PreparedZImage", "back", "build", "forward", "prepare", "row"]

BUCKET = 32
"""Captions are padded to a multiple of so many tokens."""
RESIDUAL = "residual.layer."
"""The prefix of what a control network adds behind a block."""
LONGEST, LARGEST = 41_984, 1024
"""Tokens of a caption, and patches along a side of the image, for which positions are computed ahead."""


def build(config: Config) -> torch.nn.Module:
    """An empty network, from the arguments of its class."""
    made: Any = ZImageTransformer2DModel
    with torch.device("meta"):
        module: torch.nn.Module = made(**plain(config), axes_lens=[LONGEST, LARGEST, LARGEST])
    return module


@dataclass(frozen=True, eq=False)
class PreparedZImage:
    """A caption [T, D], and its number of tokens with padding."""

    text: Tensor
    tokens: int


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedZImage:
    assert entry.text is not None, "checked before the run: this family needs a text"
    return PreparedZImage(entry.text.float(), -(-len(entry.text) // BUCKET) * BUCKET)


def row(config: Config, ask: Ask, prepared: PreparedZImage) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(1.0 - ask.time, dtype=torch.float32)}
    return Row(
        stacked=stacked | {f"residual.{name}": residual for name, residual in ask.residuals.items()},
        common=(prepared.tokens,),
        ragged={"text": prepared.text},
    )


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]]
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N] and a list of captions [T, D] -> out [N, C, h, w]."""
    dtype = module.dtype
    images = [image[:, None] for image in stacked["x"].to(dtype)]  # the class takes one frame of a video
    captions = [caption.to(dtype) for caption in ragged["text"]]
    steered = {
        int(name.removeprefix(RESIDUAL)): one.to(dtype) for name, one in stacked.items() if name.startswith(RESIDUAL)
    }
    found = module(images, stacked["time"], captions, controlnet_block_samples=steered or None, return_dict=False)[0]
    return {"out": torch.stack(found)[:, :, 0]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return -answers["out"].float()
