"""The transformer of Ideogram 4 at work: how it is built, and how it is asked about rows (see model/family.py).

Text and image are one sequence, without padding. A cell of the latent is a token whose 128 channels are 2 x 2 places of
32 channels of the VAE; the network wants the places before the channels, the latent has the channels first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from diffusers import Ideogram4Transformer2DModel
from diffusers.models.transformers.transformer_ideogram4 import (
    IMAGE_POSITION_OFFSET,
    LLM_TOKEN_INDICATOR,
    OUTPUT_IMAGE_INDICATOR,
)
from torch import Tensor
from torch.nn.functional import pad

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]

PLACES = 4
"""Places of the VAE's latent in a cell."""


def build(config: Config) -> torch.nn.Module:
    """An empty transformer, from the arguments of its class."""
    made: Any = Ideogram4Transformer2DModel
    with EmptyParameters():
        module: torch.nn.Module = made(**plain(config))
    return module


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The text [T, D]; no tokens where there is none: the network for guidance sees the image alone."""
    if entry.text is None:
        return torch.zeros(0, config.denoiser.llm_features_dim)
    return entry.text.float()


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    return Row({"x": ask.x, "time": torch.tensor(1.0 - ask.sigma, dtype=torch.float32), "text": prepared})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 128, h, w], time [N], text [N, T, D] -> out [N, 128, h, w]."""
    x, text, dtype = stacked["x"], stacked["text"], module.dtype
    rows, channels, height, width = x.shape
    cells = x.reshape(rows, channels // PLACES, PLACES, height * width).permute(0, 3, 2, 1).reshape(rows, -1, channels)
    tokens = text.shape[1]
    places, roles = _sequence(tokens, height, width, x.device)
    out = module(
        hidden_states=pad(cells, (0, 0, tokens, 0)).to(dtype),
        timestep=stacked["time"],
        encoder_hidden_states=pad(text, (0, 0, 0, height * width)).to(dtype),
        position_ids=places.expand(rows, -1, -1),
        segment_ids=torch.ones_like(roles).expand(rows, -1),
        indicator=roles.expand(rows, -1),
        return_dict=False,
    )[0][:, tokens:]
    out = out.reshape(rows, height * width, PLACES, channels // PLACES).permute(0, 3, 2, 1)
    return {"out": out.reshape(x.shape)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return -answers["out"].float()


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def _sequence(tokens: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places [1, T + h w, 3] and roles [1, T + h w] of a text and an image. Must not be written to."""
    text = torch.arange(tokens, device=device)[:, None].expand(-1, 3)
    sides = (torch.arange(1), torch.arange(height), torch.arange(width))
    image = torch.cartesian_prod(*sides).to(device) + IMAGE_POSITION_OFFSET
    roles = torch.full((1, tokens + height * width), OUTPUT_IMAGE_INDICATOR, device=device)
    roles[:, :tokens] = LLM_TOKEN_INDICATOR
    return torch.cat([text, image])[None], roles
