"""The transformer of ERNIE-Image at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ErnieImageTransformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]


def build(config: Config) -> ErnieImageTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = ErnieImageTransformer2DModel
    with EmptyParameters():
        module: ErnieImageTransformer2DModel = kind(**plain(config))
    return module


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The text of an entry, [T, D]."""
    assert entry.text is not None, "checked before the run: the family needs a text"
    return entry.text.float()


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    return Row({"x": ask.x, "time": torch.tensor(1000 * ask.sigma, dtype=torch.float32), "text": prepared})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D] -> out [N, C, h, w]."""
    text = stacked["text"]
    out = module(
        hidden_states=stacked["x"].to(module.dtype),
        timestep=stacked["time"],
        text_bth=text.to(module.dtype),
        text_lens=torch.full((len(text),), text.shape[1], device=text.device),
        return_dict=False,
    )[0]
    return {"out": out}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
