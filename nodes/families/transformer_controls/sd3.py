"""ControlNets of Stable Diffusion 3 at work. The answers are what is added to its blocks: `block.spreadC.N`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SD3ControlNetModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.flow import latent_format
from ..kits.tokens import padded, residual_names
from ..kits.unet_network import plain
from .hint import hint_latent, no_back

__all__ = ["back", "build", "forward", "prepare", "row"]


def build(config: Config) -> torch.nn.Module:
    """An empty ControlNet, from the arguments of its class."""
    arguments = {name: value for name, value in plain(config).items() if name != "condition_channels"}
    with torch.device("meta"):
        module: Any = SD3ControlNetModel(**arguments)  # type: ignore[no-untyped-call]
    found: torch.nn.Module = module
    return found


@dataclass(frozen=True, eq=False)
class PreparedSD3Control:
    text: Tensor | None
    """None: of a network that sees no text."""
    pooled: Tensor
    hint: Tensor
    """[C, h, w], sides even."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedSD3Control:
    """`entry` carries the one control that is asked."""
    (control,) = entry.controls
    assert entry.text is not None and entry.pooled is not None  # the model that is steered needs them as well
    columns = 4 * config.denoiser.condition_channels
    hint = hint_latent(control, latent_format(config), shape[-2:], columns)
    text = None if config.denoiser.joint_attention_dim is None else entry.text.float()
    return PreparedSD3Control(text, entry.pooled.float(), padded(hint))


def row(config: Config, ask: Ask, prepared: PreparedSD3Control) -> Row:
    time = torch.tensor(ask.sigma * 1000.0, dtype=torch.float32)
    stacked = {"x": ask.x, "time": time, "pooled": prepared.pooled, "hint": prepared.hint}
    return Row(stacked if prepared.text is None else {**stacked, "text": prepared.text})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 16, h, w], hint [N, C, h, w] and what SD 3 takes -> `block.spreadC.N` [N, n, D]."""
    dtype = module.dtype
    (found,) = module(
        hidden_states=torch.stack([padded(latent) for latent in stacked["x"]]).to(dtype),
        controlnet_cond=stacked["hint"].to(dtype),
        encoder_hidden_states=stacked["text"].to(dtype) if "text" in stacked else None,
        pooled_projections=stacked["pooled"].to(dtype),
        timestep=stacked["time"],
        return_dict=False,
    )
    return dict(zip(residual_names("block", len(found)), found, strict=True))


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    raise no_back()
