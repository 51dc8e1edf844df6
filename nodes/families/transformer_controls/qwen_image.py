"""ControlNets of Qwen-Image at work. The answers are what is added inside the transformer: `block.spreadC.N`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import QwenImageControlNetModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.tokens import pack, padded, residual_names
from ..kits.unet_network import plain
from ..qwen_image import PATCH
from ..qwen_image.network import packed
from ..qwen_image.places import Places, Positions, RowLayout, places_of
from .hint import hint_latent, no_back

__all__ = ["back", "build", "forward", "prepare", "row"]


def build(config: Config) -> torch.nn.Module:
    """An empty ControlNet, from the arguments of its class."""
    kind: Any = QwenImageControlNetModel
    arguments = {name: value for name, value in plain(config).items() if name != "condition_channels"}
    with torch.device("meta"):
        module: Any = kind.from_config(arguments)
    module.pos_embed = Positions(config.axes_dims_rope)
    return module  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class PreparedQwenImageControl:
    text: Tensor
    hint: Tensor
    """Tokens, [n, D]."""
    places: Places


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedQwenImageControl:
    """`entry` carries the one control that is asked."""
    from . import QWEN_CONTROL

    (control,) = entry.controls
    assert entry.text is not None  # the model that is steered needs it as well
    hint = hint_latent(control, QWEN_CONTROL.latent(config), shape[-2:], config.denoiser.condition_channels)
    return PreparedQwenImageControl(entry.text.float(), pack(padded(hint)), places_of([tuple(shape)], PATCH, False))


def row(config: Config, ask: Ask, prepared: PreparedQwenImageControl) -> Row:
    time = torch.tensor(ask.time, dtype=torch.float32)
    stacked = {"x": packed(ask.x), "time": time, "text": prepared.text, "hint": prepared.hint}
    return Row(stacked, common=(prepared.places,))


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, n, 64], hint [N, n, D] and what Qwen-Image takes -> `block.spreadC.N` [N, n, D]."""
    dtype = module.dtype
    found = module(
        hidden_states=stacked["x"].to(dtype),
        controlnet_cond=stacked["hint"].to(dtype),
        encoder_hidden_states=stacked["text"].to(dtype),
        timestep=stacked["time"],
        img_shapes=[RowLayout(common[0])] * len(stacked["x"]),
        return_dict=False,
    )
    return dict(zip(residual_names("block", len(found)), found, strict=True))


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    raise no_back()
