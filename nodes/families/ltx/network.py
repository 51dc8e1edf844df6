r"""The transformer of LTX-Video at work: how it is built, and how it is asked about rows (see model/family.py).

A token is one cell of a latent. Its position is that of its first pixel: frame over frames a second, row and column. A
latent frame i of a video has the frame :math:`8 i`, or, from 0.9.5 on, :math:`\max(0, 8 i - 7)`. Where a noise mask m
keeps cells, they are shown without noise and their time is :math:`1000 \, \sigma m`. A guide may be smaller than the
video: a cell of it stands for a block of cells, begins where the block begins, and the others of the block are no
tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.ltx_vae import SPACE, TIME
from ..kits.unet_network import plain
from . import FRAME_RATE, GUIDES, SIDES

__all__ = [
    "Guides",
    "PreparedLTX",
    "back",
    "build",
    "cells_of",
    "forward",
    "guides_of",
    "positions",
    "prepare",
    "row",
    "tokens_of",
]


def build(config: Config) -> LTXVideoTransformer3DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = LTXVideoTransformer3DModel
    with EmptyParameters():
        module: LTXVideoTransformer3DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedLTX:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    seen: Tensor
    """[T], 1 where the network may look at the text."""
    places: Tensor
    """[3, tokens]: seconds, row and column of each cell."""
    shown: Tensor | None = None
    """[tokens]: numbers of the cells that are tokens; None: all."""


@dataclass(frozen=True, eq=False)
class Guides:
    """Guides behind a video, cell by cell of the video's grid."""

    places: Tensor
    """[3, cells]: frame, row and column where each begins."""
    sides: Tensor
    """[cells]: how many cells of the video each stands for, along a side; 0 where there is none."""

    def shown(self, before: int) -> Tensor | None:
        """[tokens]: numbers of the cells of a latent that are tokens, with so many cells before the guides; None where
        all are."""
        if bool((self.sides > 0).all()):
            return None
        return torch.cat([torch.arange(before), before + self.sides.nonzero()[:, 0]])


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedLTX:
    assert entry.text is not None, "checked before the run: the family needs a text"
    text, mask = entry.text.float(), entry.attention_mask
    seen = torch.ones(len(text))
    if mask is not None:  # a text that was joined to another is longer
        seen[: len(mask)] = mask[: len(text)].float()
    _, frames, height, width = shape
    guides, shown = guides_of(entry, frames, height, width), None
    count = 0 if guides is None else len(guides.sides) // (height * width)
    places = positions(frames - count, height, width, config.causal_times)
    if guides is not None:
        shown = guides.shown(places.shape[1])
        places = torch.cat([places, guides.places], dim=1)
    places[0] /= float(entry.extra.get("frame_rate", FRAME_RATE))
    return PreparedLTX(text, seen, places if shown is None else places[:, shown], shown)


def guides_of(entry: Entry, frames: int, height: int, width: int) -> Guides | None:
    """The guides of a conditioning. Raises a Problem where a latent of so many frames and cells does not hold them."""
    places: Tensor | None = entry.extra.get(GUIDES)
    if places is None:
        return None
    cells = places.shape[-1]
    count, rest = divmod(cells, height * width)
    sides: Tensor | None = entry.extra.get(SIDES)
    if rest or count >= frames or (sides is not None and sides.shape[-1] != cells):
        raise GraphFlowError(
            [
                Problem(
                    "wrong_size",
                    f"the conditioning has guides of {cells} cells, and the latent has {frames} frames of "
                    f"{width} x {height}",
                    hint="give the sampler the latent of the last LTXVAddGuide, and no area",
                )
            ]
        )
    return Guides(places[0].float(), torch.ones(cells) if sides is None else sides[0, 0].float())


def tokens_of(x: Tensor, shown: Tensor | None) -> Tensor:
    """[N, C, frames, h, w] -> [N, tokens, C]; `shown`, [N, tokens], are the numbers of the cells that are tokens."""
    tokens = x.flatten(2).transpose(1, 2)
    return tokens if shown is None else tokens.gather(1, shown[..., None].expand(-1, -1, tokens.shape[2]))


def cells_of(tokens: Tensor, shown: Tensor | None, sides: tuple[int, ...]) -> Tensor:
    """[N, tokens, C] -> [N, C, frames, h, w]; 0 where there is no token."""
    if shown is not None:
        whole = tokens.new_zeros(len(tokens), math.prod(sides), tokens.shape[2])
        tokens = whole.scatter(1, shown[..., None].expand_as(tokens), tokens)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *sides)


def positions(frames: int, height: int, width: int, is_causal: bool) -> Tensor:
    """[3, frames * height * width]: frame, row and column of the first pixel of each cell of a video."""
    first = torch.arange(frames, dtype=torch.float32) * TIME
    if is_causal:
        first = (first + 1 - TIME).clamp(min=0)
    rows, columns = (torch.arange(side, dtype=torch.float32) * SPACE for side in (height, width))
    return torch.stack(torch.meshgrid(first, rows, columns, indexing="ij")).flatten(1)


def row(config: Config, ask: Ask, prepared: PreparedLTX) -> Row:
    time = torch.tensor(ask.sigma * 1000.0, dtype=torch.float32)
    if ask.made is not None:
        time = (time * ask.made.expand(1, *ask.x.shape[1:]).float()).flatten()
    stacked = {"x": ask.x, "text": prepared.text, "seen": prepared.seen, "places": prepared.places}
    if prepared.shown is None:
        return Row({**stacked, "time": time})
    return Row({**stacked, "time": time[prepared.shown] if time.dim() else time, "shown": prepared.shown})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, frames, h, w], time [N] or [N, tokens], text [N, T, D], seen [N, T], places [N, 3, tokens], shown
    [N, tokens] or none -> out as x."""
    dtype, x, shown = module.dtype, stacked["x"], stacked.get("shown")
    out = module(
        hidden_states=tokens_of(x, shown).to(dtype),
        encoder_hidden_states=stacked["text"].to(dtype),
        timestep=stacked["time"],
        encoder_attention_mask=stacked["seen"],
        video_coords=stacked["places"],
        return_dict=False,
    )[0]
    return {"out": cells_of(out, shown, x.shape[2:])}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
