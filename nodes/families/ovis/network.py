"""The transformer of Ovis-Image at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import OvisImageTransformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Entry
from ..kits.empty import EmptyParameters
from ..kits.flux_blocks_network import Prepared, back, forward, prepared, row
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]


class UpAndGate(torch.nn.Module):
    """The two Linears at the entry of a gated feed-forward network, which files have apart and the class as one."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.gate = torch.nn.Linear(width, inner), torch.nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.up(x), self.gate(x)], dim=-1)


def build(config: Config) -> OvisImageTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = OvisImageTransformer2DModel
    with EmptyParameters():
        module: Any = kind(**plain(config))
        for block in module.transformer_blocks:
            for network in (block.ff, block.ff_context):
                fused = network.net[0].proj
                network.net[0].proj = UpAndGate(fused.in_features, fused.out_features // 2)
    built: OvisImageTransformer2DModel = module
    return built


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Prepared:
    return prepared(config, entry, shape, lambda number, rows, columns, text: (number, rows, columns, 0, 0))
