"""Fun ControlNets of Z-Image at work. The answers are what is added behind blocks of the transformer: `layer.N`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ZImageControlNetModel
from torch import Tensor
from torch.nn.functional import interpolate

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.flow import latent_format
from ..kits.unet_network import plain
from ..z_image import network as z_image
from .hint import no_back

__all__ = ["back", "build", "forward", "prepare", "row"]

OWN = (
    "dim",
    "n_heads",
    "control_in_dim",
    "n_refiner_layers",
    "add_control_noise_refiner",
    "control_layers_places",
    "control_refiner_layers_places",
)


def build(config: Config) -> torch.nn.Module:
    """An empty network with the way in of the model that it steers, whose config is `config.model`."""
    kind: Any = ZImageControlNetModel
    stated = plain(config)
    with torch.device("meta"):
        module: Any = kind(**{name: stated[name] for name in OWN}, n_kv_heads=config.n_heads)
    found: torch.nn.Module = kind.from_transformer(module, z_image.build(config.model))
    return found


@dataclass(frozen=True, eq=False)
class PreparedFun:
    asked: z_image.PreparedZImage
    hint: Tensor
    """[16 or 33, h, w]"""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedFun:
    """`entry` carries the one control that is asked; its latent is that of the hint and of the image to inpaint."""
    (control,) = entry.controls
    unit, sides = latent_format(config), shape[-2:]
    if control.latent is None or control.latent.shape[1] != 2 * unit.channels:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_latent",
                    f"the control network takes latents of {unit.channels} channels",
                    hint="link the VAE of Z-Image (FLUX's) to the node",
                )
            ]
        )
    latents = control.latent
    hint, other = (unit.into(one)[0] for one in (latents[:, : unit.channels], latents[:, unit.channels :]))
    if config.denoiser.control_in_dim > unit.channels:
        kept = torch.zeros(1, 1, *sides) if control.kept is None else control.kept[:1, None].float()
        hint = torch.cat([hint, interpolate(kept, size=sides, mode="nearest")[0], other])
    return PreparedFun(z_image.prepare(config, entry, shape), hint)


def row(config: Config, ask: Ask, prepared: PreparedFun) -> Row:
    asked = z_image.row(config, ask, prepared.asked)
    return Row({**asked.stacked, "hint": prepared.hint}, asked.common, asked.ragged)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]]
) -> dict[str, Tensor]:
    """x [N, 16, h, w], time [N], hint [N, C, h, w] and captions [T, D] -> `layer.N` [N, tokens, D]."""
    dtype = module.dtype
    images, hints = ([one[:, None] for one in stacked[name].to(dtype)] for name in ("x", "hint"))
    captions = [caption.to(dtype) for caption in ragged["text"]]
    found = module(images, stacked["time"], captions, hints)
    return {f"layer.{number}": answer for number, answer in found.items()}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    raise no_back()
