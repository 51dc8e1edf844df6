"""DiffSynth's control of Qwen-Image at work: it acts within the transformer, on what each of its blocks answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.tokens import pack, padded
from .acting_within import back, forward
from .hint import hint_latent

__all__ = ["back", "build", "forward", "prepare", "row", "within"]

EPSILON = 1e-6


class _Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.x_rms, self.y_rms = nn.RMSNorm(dim, eps=EPSILON), nn.RMSNorm(dim, eps=EPSILON)
        self.input_proj, self.output_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.output_proj(nn.functional.gelu(self.input_proj(self.x_rms(x) + self.y_rms(y))))
        return found


class _Network(nn.Module):
    def __init__(self, dim: int, columns: int, layers: int) -> None:
        super().__init__()
        self.img_in = nn.Linear(columns, dim)
        self.controlnet_blocks = nn.ModuleList(_Block(dim) for _ in range(layers))


def build(config: Config) -> torch.nn.Module:
    """An empty network."""
    with torch.device("meta"):
        return _Network(config.dim, config.columns, config.num_layers)


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The tokens of the hint, [n, 64 or 68]; `entry` carries the one control that acts."""
    from .diffsynth import QWEN_DIFFSYNTH

    (control,) = entry.controls
    hint = hint_latent(control, QWEN_DIFFSYNTH.latent(config), shape[-2:], config.denoiser.columns)
    return pack(padded(hint))


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    """What the rows of the transformer carry for it."""
    return Row({"hint": prepared})


@contextmanager
def within(transformer: Any, network: Any, given: Mapping[str, Tensor]) -> Iterator[None]:
    """The transformer's blocks are steered until the end of the block. hint [N, n, C], strength [N]."""
    weight = network.img_in.weight
    y = network.img_in(given["hint"].to(weight.dtype))
    strength = given["strength"].to(y)[:, None, None]
    count = y.shape[1]
    """Tokens of the latent, which stand before those of reference images."""

    def steered(own: _Block) -> Any:
        def hook(_: nn.Module, inputs: Any, found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            text, image = found
            own_tokens = image[:, :count]
            changed = own_tokens + strength * own(own_tokens, y)
            return text, torch.cat([changed, image[:, count:]], dim=1)

        return hook

    with ExitStack() as stack:
        for block, own in zip(transformer.transformer_blocks, network.controlnet_blocks, strict=True):
            stack.callback(block.register_forward_hook(steered(own)).remove)
        yield
