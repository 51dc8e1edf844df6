"""The transformer of HiDream at work: how it is built, and how it is asked about rows (see model/family.py).

A token is a square of 2 x 2 cells. The released models pad an image that is no square with tokens of zeros up to 4,096,
which the others attend; an image with more tokens is not padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.tokens import padded
from ..kits.unet_network import plain
from . import HIDREAM

__all__ = ["PreparedHiDream", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> torch.nn.Module:
    """An empty transformer, from the arguments of its class."""
    made: Any = HiDreamImageTransformer2DModel
    with torch.device("meta"):
        module: torch.nn.Module = made(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedHiDream:
    """The values that are the same for all questions about an entry."""

    text: Tensor
    """Of T5, [T, D]."""
    llama: Tensor
    """[layers, T, D]"""
    pooled: Tensor
    beside: Tensor | None
    """The image that E1 edits, model unit, [C, h, w]."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedHiDream:
    assert entry.text is not None and entry.pooled is not None, "checked before the run: this family needs both"
    beside = None if entry.concat is None else HIDREAM.latent(config).into(entry.concat[None])[0].float()
    return PreparedHiDream(entry.text.float(), entry.extra["llama"].float(), entry.pooled.float(), beside)


def row(config: Config, ask: Ask, prepared: PreparedHiDream) -> Row:
    x = padded(ask.x)
    if prepared.beside is not None:
        x = torch.cat([x, padded(prepared.beside).to(x)], dim=-1)
    return Row(
        {
            "x": x,
            "time": torch.tensor(ask.sigma * 1000.0, dtype=torch.float32),
            "text": prepared.text,
            "llama": prepared.llama,
            "pooled": prepared.pooled,
        }
    )


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D], llama [N, layers, T, D], pooled [N, P] -> out [N, C, h, w]."""
    dtype = module.dtype
    asked = {
        "timesteps": stacked["time"],
        "encoder_hidden_states_t5": stacked["text"].to(dtype),
        "encoder_hidden_states_llama3": stacked["llama"].to(dtype).transpose(0, 1),
        "pooled_embeds": stacked["pooled"].to(dtype),
        "return_dict": False,
    }
    x = stacked["x"].to(dtype)
    rows, channels, height, width = x.shape
    if height == width or height * width <= module.max_seq * 4:
        return {"out": module(hidden_states=x, **asked)[0]}
    down, across = height // 2, width // 2
    tokens = x.reshape(rows, channels, down, 2, across, 2).permute(0, 2, 4, 3, 5, 1).reshape(rows, down * across, -1)
    places = torch.zeros(down, across, 3, device=x.device)
    places[..., 1] = torch.arange(down, device=x.device)[:, None]
    places[..., 2] = torch.arange(across, device=x.device)
    out = module(
        hidden_states=tokens,
        hidden_states_masks=tokens.new_ones(rows, down * across),
        img_ids=places.reshape(1, -1, 3).expand(rows, -1, -1),
        img_sizes=[(down, across)] * rows,
        **asked,
    )[0]
    return {"out": out}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    height, width = ask.x.shape[-2:]
    return -answers["out"].float()[..., :height, :width]
