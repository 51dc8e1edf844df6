"""The transformer of Krea 2 at work: how it is built, and how it is asked about rows (see model/family.py).

Tokens of the text have the place (0, 0, 0), those of the image (0, row, column).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import Krea2Transformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.tokens import pack, positions, unpack
from ..kits.unet_network import plain

__all__ = ["PreparedKrea2", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> Krea2Transformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = Krea2Transformer2DModel
    with EmptyParameters():
        module: Krea2Transformer2DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedKrea2:
    """The text of an entry, [T, layers, D]."""

    text: Tensor


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedKrea2:
    assert entry.text is not None, "checked before the run: the family needs a text"
    return PreparedKrea2(entry.text.float().reshape(len(entry.text), config.denoiser.num_text_layers, -1))


def row(config: Config, ask: Ask, prepared: PreparedKrea2) -> Row:
    time = torch.tensor(ask.sigma, dtype=torch.float32)
    return Row({"x": ask.x[:, 0], "time": time, "text": prepared.text}, common=())


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, layers, D] -> out [N, C, h, w]."""
    x, text = stacked["x"], stacked["text"]
    height, width = x.shape[-2:]
    places = positions(((0, height // 2, width // 2, 0, 0),), x.device)
    out = module(
        hidden_states=torch.stack([pack(latent) for latent in x]).to(module.dtype),
        encoder_hidden_states=text.to(module.dtype),
        timestep=stacked["time"],
        position_ids=torch.cat([places.new_zeros(text.shape[1], 3), places]),
        return_dict=False,
    )[0]
    return {"out": unpack(out, height, width)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()[:, None]
