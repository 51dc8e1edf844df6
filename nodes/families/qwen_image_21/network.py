"""The transformer of Qwen-Image 2.1 at work: how it is built, and how it is asked about rows (see model/family.py).

A slot is a state of an image's in the condition: four tokens of that image's latent stand in its place. States of
images without latents stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import QwenImage21Transformer2DModel
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry, Row
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain
from . import QWEN_IMAGE_21

__all__ = ["PreparedQwenImage21", "back", "build", "forward", "prepare", "row"]

OF_SLOT = 4
"""Tokens of a latent that a slot stands for."""


def build(config: Config) -> QwenImage21Transformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = QwenImage21Transformer2DModel
    with EmptyParameters():
        module: QwenImage21Transformer2DModel = kind(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedQwenImage21:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    references: Tensor | None
    """Tokens of all reference images, model unit, [n, C]."""
    sides: tuple[tuple[int, int], ...]
    """Rows and columns of each reference, then of the latent."""
    slots: tuple[int, ...]
    """The places of the states that references replace."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedQwenImage21:
    assert entry.text is not None, "checked before the run: the family needs a text"
    unit = QWEN_IMAGE_21.latent(config)
    latents = [unit.into(latent[None])[0] for latent in entry.references]
    sides = tuple((int(one.shape[-2]), int(one.shape[-1])) for one in latents)
    tokens = sum(rows * columns for rows, columns in sides)
    slots = tuple(int(place) for place in entry.image_slots) if latents else ()
    if tokens != OF_SLOT * len(slots):
        raise GraphFlowError(
            [
                Problem(
                    "reference_slots",
                    f"the reference images have {tokens} cells, and the prompt has room for {OF_SLOT * len(slots)}",
                    hint="give the images to TextEncodeQwenImage21, which encodes both; ReferenceLatent adds none here",
                )
            ]
        )
    references = torch.cat([latent.flatten(1).mT for latent in latents]) if latents else None
    return PreparedQwenImage21(entry.text.float(), references, (*sides, (shape[-2], shape[-1])), slots)


def row(config: Config, ask: Ask, prepared: PreparedQwenImage21) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(ask.sigma, dtype=torch.float32), "text": prepared.text}
    if prepared.references is not None:
        stacked["references"] = prepared.references
    return Row(stacked, common=(prepared.sides, prepared.slots))


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D] and references [N, n, C] -> out [N, C, h, w]."""
    sides, slots = common
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    tokens = x.flatten(2).mT
    count = tokens.shape[1]
    if "references" in stacked:
        tokens = torch.cat([stacked["references"].to(tokens), tokens], dim=1)
    is_image = torch.zeros(len(x), text.shape[1] + count // OF_SLOT, dtype=torch.bool, device=x.device)
    is_image[:, text.shape[1] :] = True
    is_image[:, list(slots)] = True
    out = module(
        hidden_states=tokens.to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=stacked["time"],
        img_shapes=[[(1, rows, columns) for rows, columns in sides]] * len(x),
        img_mask=is_image,
        return_dict=False,
    )[0]
    return {"out": out[:, -count:].mT.reshape(x.shape)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
