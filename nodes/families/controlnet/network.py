"""ControlNets at work: how they are built, and how they are asked about rows (see model/family.py).

Asked with what the U-Net is asked with, and the hint. The answers are what is added inside the U-Net: `down.N` and
`mid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from torch import Tensor
from torch.func import functional_call

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.handles import ControlNet
from ...model.row import Row
from ..kits import unet_network
from ..kits.unet import takes_sizes
from ..kits.unet_network import plain
from ..sdxl import network as sdxl_network
from .hint import sized_hint

__all__ = ["build", "forward", "prepare", "row"]

UNET_ALONE = ("out_channels", "up_block_types")
POOLED = "pooled"


def build(config: Config) -> torch.nn.Module:
    """An empty ControlNet, from the arguments of its class."""
    kind: Any = ControlNetUnionModel if "num_control_type" in config else ControlNetModel
    stated = {name: value for name, value in plain(config).items() if name not in UNET_ALONE}
    with torch.device("meta"):
        module: torch.nn.Module = kind.from_config(stated)
    return module


@dataclass(frozen=True, eq=False)
class PreparedControl:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    asked: unet_network.PreparedUNet
    hint: Tensor
    """[C, H, W] in 0..1, of the size of the image."""
    mode: Tensor | None
    """0-d, of a union: which kind of image the hint is; the number of kinds where it is not stated."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedControl:
    """`entry` carries the one control that is asked; a region of a latent sees the whole hint, scaled to it."""
    (control,) = entry.controls
    denoiser = config.denoiser
    kind = sdxl_network if takes_sizes(denoiser) else unet_network
    sides = tuple(side * config.latent.factor for side in shape[-2:])
    types = denoiser.get("num_control_type")
    stated = cast(ControlNet, control.model).mode
    mode = None if types is None else torch.tensor(types if stated is None else stated)
    hint = sized_hint(control.hint, sides, denoiser.conditioning_channels)
    return PreparedControl(kind.prepare(config, entry, shape), hint, mode)


def row(config: Config, ask: Ask, prepared: PreparedControl) -> Row:
    asked = unet_network.row(config, ask, prepared.asked)
    stacked = {**asked.stacked, "hint": prepared.hint}
    if prepared.mode is not None:
        stacked["mode"] = prepared.mode
    return Row(stacked, (POOLED,) if config.denoiser.get("global_pool_conditions") else ())


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], context [N, T, D], hint [N, 3, 8h, 8w] and what else a U-Net takes -> `down.N`,
    `mid`."""
    dtype = module.dtype
    asked: dict[str, Any] = {
        "sample": stacked["x"].to(dtype),
        "timestep": stacked["time"],
        "encoder_hidden_states": stacked["context"].to(dtype),
        "controlnet_cond": stacked["hint"].to(dtype),
        "return_dict": False,
    }
    if "class" in stacked:
        asked["class_labels"] = stacked["class"].to(dtype)
    if "sizes" in stacked:
        asked["added_cond_kwargs"] = {"text_embeds": stacked["pooled"].to(dtype), "time_ids": stacked["sizes"]}
    down, mid = _union(module, asked, stacked["mode"]) if "mode" in stacked else module(**asked)
    found = {f"down.{number}": answer for number, answer in enumerate(down)} | {"mid": mid}
    if POOLED in common:
        found = {name: answer.mean((2, 3), keepdim=True).expand_as(answer) for name, answer in found.items()}
    return found


def _union(module: Any, asked: dict[str, Any], mode: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """A hint of a kind that is not stated has no embedding of its kind: the table gets a row of zeros for it."""
    table = module.task_embedding
    kinds = torch.nn.functional.one_hot(mode, len(table) + 1)[:, :-1]
    whole = torch.cat([table, torch.zeros_like(table[:1])])
    asked |= {
        "controlnet_cond": [asked["controlnet_cond"]],
        "control_type": kinds.to(table.dtype),
        "control_type_idx": [mode],
    }
    answers: tuple[tuple[Tensor, ...], Tensor] = functional_call(
        module, {"task_embedding": whole}, kwargs=asked, args=()
    )
    return answers


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    """A control network denoises nothing: its answers go into the U-Net."""
    raise TypeError("a control network has no clean latent")
