r"""The transformer of LTX-Video at work: how it is built, and how it is asked about rows (see model/family.py).

A token is one cell of a latent. Its position is that of its first pixel: frame over frames a second, row and column. A
latent frame i of a video has the frame :math:`8 i`, or, from 0.9.5 on, :math:`\max(0, 8 i - 7)`. Where a noise mask m
keeps cells, they are shown without noise and their time is :math:`1000 \, \sigma m`.
"""

from __future__ import annotations

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
from . import FRAME_RATE, GUIDES

__all__ = ["PreparedLTX", "back", "build", "forward", "guides_of", "positions", "prepare", "row"]


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


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedLTX:
    assert entry.text is not None, "checked before the run: the family needs a text"
    text, mask = entry.text.float(), entry.attention_mask
    seen = torch.ones(len(text))
    if mask is not None:  # a text that was joined to another is longer
        seen[: len(mask)] = mask[: len(text)].float()
    _, frames, height, width = shape
    guides = guides_of(entry, frames, height, width)
    count = 0 if guides is None else guides.shape[-1] // (height * width)
    places = positions(frames - count, height, width, config.causal_times)
    if guides is not None:
        places = torch.cat([places, guides], dim=1)
    places[0] /= float(entry.extra.get("frame_rate", FRAME_RATE))
    return PreparedLTX(text, seen, places)


def guides_of(entry: Entry, frames: int, height: int, width: int) -> Tensor | None:
    """[3, cells]: where the cells of the guides of a conditioning begin. Raises a Problem where a latent of so many
    frames and cells does not hold them."""
    guides: Tensor | None = entry.extra.get(GUIDES)
    count = 0 if guides is None else guides.shape[-1] // (height * width)
    if guides is not None and (guides.shape[-1] != count * height * width or count >= frames):
        raise GraphFlowError(
            [
                Problem(
                    "wrong_size",
                    f"the conditioning has guides of {guides.shape[-1]} cells, and the latent has {frames} frames of "
                    f"{width} x {height}",
                    hint="give the sampler the latent of the last LTXVAddGuide, and no area",
                )
            ]
        )
    return None if guides is None else guides[0].float()


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
    stacked = {"x": ask.x, "time": time, "text": prepared.text, "seen": prepared.seen, "places": prepared.places}
    return Row(stacked)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, frames, h, w], time [N] or [N, tokens], text [N, T, D], seen [N, T], places [N, 3, tokens] ->
    out as x."""
    dtype, x = module.dtype, stacked["x"]
    out = module(
        hidden_states=x.flatten(2).transpose(1, 2).to(dtype),
        encoder_hidden_states=stacked["text"].to(dtype),
        timestep=stacked["time"],
        encoder_attention_mask=stacked["seen"],
        video_coords=stacked["places"],
        return_dict=False,
    )[0]
    return {"out": out.transpose(1, 2).unflatten(2, x.shape[2:])}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
