"""Anima at work: a conditioner and a transformer, and how they are asked about rows (see model/family.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch import Tensor
from torch.nn.functional import pad

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain

__all__ = ["AnimaNetworks", "PreparedAnima", "back", "build", "forward", "prepare", "row"]


class AnimaNetworks(torch.nn.Module):
    """The conditioner and the transformer."""

    def __init__(self, conditioner: Any, transformer: Any) -> None:
        super().__init__()
        self.conditioner, self.transformer = conditioner, transformer

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = self.transformer.dtype
        return found

    def forward(self, x: Tensor, time: Tensor, text: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        x, text = x.to(self.dtype), self.conditioner(text.to(self.dtype), ids)
        weights = weights.to(text)
        text = text * pad(weights, (0, text.shape[1] - weights.shape[1]), value=1.0)[..., None]
        out: Tensor = self.transformer(
            hidden_states=x,
            timestep=time.to(self.dtype),
            encoder_hidden_states=text,
            condition_mask=torch.zeros_like(x[:, :1]),
            return_dict=False,
        )[0]
        return out


def build(config: Config) -> AnimaNetworks:
    """Empty networks, from the arguments of their classes."""
    kinds: tuple[Any, Any] = (AnimaTextConditioner, CosmosTransformer3DModel)
    with EmptyParameters():
        return AnimaNetworks(kinds[0](**plain(config.conditioner)), kinds[1](**plain(config.transformer)))


@dataclass(frozen=True, eq=False)
class PreparedAnima:
    """The text of an entry: states [T, D], and T5's tokens [t] with their weights [t]."""

    text: Tensor
    ids: Tensor
    weights: Tensor


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedAnima:
    assert entry.text is not None, "checked before the run: the family needs a text"
    ids = torch.as_tensor(entry.extra["t5xxl_ids"]).long()
    weights = entry.extra.get("t5xxl_weights")
    return PreparedAnima(
        entry.text.float(), ids, torch.ones(len(ids)) if weights is None else torch.as_tensor(weights).float()
    )


def row(config: Config, ask: Ask, prepared: PreparedAnima) -> Row:
    time = torch.tensor(ask.sigma, dtype=torch.float32)
    text = {"text": prepared.text, "ids": prepared.ids, "weights": prepared.weights}
    return Row({"x": ask.x, "time": time, **text}, common=())


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, 1, h, w], time [N], text [N, T, D], ids and weights [N, t] -> out [N, C, 1, h, w]."""
    return {"out": module(*(stacked[name] for name in ("x", "time", "text", "ids", "weights")))}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
