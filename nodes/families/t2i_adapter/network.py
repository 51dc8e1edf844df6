"""T2I-Adapters at work: an image in, and what is added to each level of a U-Net going down (`inner.N`)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import T2IAdapter
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..controlnet.hint import sized_hint
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]


def build(config: Config) -> torch.nn.Module:
    """An empty adapter, from the arguments of its class."""
    kind: Any = T2IAdapter
    with torch.device("meta"):
        module: torch.nn.Module = kind.from_config(plain(config))
    return module


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The hint, its sides rounded up to whole cells of the first level."""
    (control,) = entry.controls
    factor = config.denoiser.downscale_factor
    sides = tuple(-(-side * config.latent.factor // factor) * factor for side in shape[-2:])
    return sized_hint(control.hint, sides, config.denoiser.in_channels)


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    return Row({"hint": prepared})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """hint [N, C, H, W] -> `inner.N`, one for each level."""
    return {f"inner.{number}": answer for number, answer in enumerate(module(stacked["hint"].to(module.dtype)))}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    """An adapter denoises nothing: its answers go into the U-Net."""
    raise TypeError("an adapter has no clean latent")
