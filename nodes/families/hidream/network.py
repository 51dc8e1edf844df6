"""The transformer of HiDream at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry, Row
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain
from . import LLAMA

__all__ = ["PreparedHiDream", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> HiDreamImageTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = HiDreamImageTransformer2DModel
    with EmptyParameters():
        module: HiDreamImageTransformer2DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedHiDream:
    """The texts of an entry: T5's states [T, D], Llama's [layers, t, E] and CLIP's pooled vectors [P]."""

    t5: Tensor
    llama: Tensor
    pooled: Tensor


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedHiDream:
    assert entry.text is not None and entry.pooled is not None, "checked before the run: the family needs them"
    return PreparedHiDream(entry.text.float(), torch.as_tensor(entry.extra[LLAMA]).float(), entry.pooled.float())


def row(config: Config, ask: Ask, prepared: PreparedHiDream) -> Row:
    texts = {"t5": prepared.t5, "llama": prepared.llama, "pooled": prepared.pooled}
    return Row({"x": ask.x, "time": torch.tensor(1000 * ask.sigma, dtype=torch.float32), **texts})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], t5 [N, T, D], llama [N, layers, t, E], pooled [N, P] -> out [N, C, h, w]."""
    dtype = module.dtype
    out = module(
        hidden_states=stacked["x"].to(dtype),
        timesteps=stacked["time"],
        encoder_hidden_states_t5=stacked["t5"].to(dtype),
        encoder_hidden_states_llama3=stacked["llama"].transpose(0, 1).to(dtype),
        pooled_embeds=stacked["pooled"].to(dtype),
        return_dict=False,
    )[0]
    return {"out": out}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return -answers["out"].float()
