"""The transformer of Qwen-Image 2.1 at work: how it is built, and how it is asked about rows (see model/family.py).

A slot is a state of an image's in the condition: four tokens of that image's latent stand in its place. States of
images without latents stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import QwenImage21Transformer2DModel
from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.unet_network import plain
from . import QWEN_IMAGE_21
from .condition import KEEP

__all__ = ["PreparedQwenImage21", "back", "build", "forward", "prepare", "row"]

OF_SLOT = 4
"""Tokens of a latent that a slot stands for."""
SMALLEST = (2, 2)
"""Rows and columns of an image of one slot."""


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
    """x [N, C, h, w], time [N], text [N, T, D] and references [N, n, C] -> out [N, C, h, w]; of a question for what is
    kept, keys and values [N, layers, 2, tokens, heads, d]."""
    if common[0] == KEEP:
        return {"kept": _keys_and_values(module, stacked, *common[1])}
    x = stacked["x"]
    cache: dict[str, Any] = {}
    if "kept" in stacked:
        cache = {"kv_cache": _cache(stacked["kept"]), "kv_cache_mode": "cached"}
    out = _asked(module, stacked, x.flatten(2).mT, stacked["time"], *common, **cache)
    return {"out": out[:, -x[0, 0].numel() :].mT.reshape(x.shape)}


def _asked(
    module: Any,
    stacked: dict[str, Tensor],
    image: Tensor,
    time: Tensor,
    sides: tuple[tuple[int, int], ...],
    slots: tuple[int, ...],
    **cache: Any,
) -> Tensor:
    """The answers [N, tokens, C] for the tokens of an image behind its condition."""
    dtype, text = module.dtype, stacked["text"]
    tokens, count = image, image.shape[1]
    if "references" in stacked:
        tokens = torch.cat([stacked["references"].to(tokens), tokens], dim=1)
    is_image = torch.zeros(len(text), text.shape[1] + count // OF_SLOT, dtype=torch.bool, device=text.device)
    is_image[:, text.shape[1] :] = True
    is_image[:, list(slots)] = True
    out: Tensor = module(
        hidden_states=tokens.to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=time,
        img_shapes=[[(1, rows, columns) for rows, columns in sides]] * len(text),
        img_mask=is_image,
        return_dict=False,
        **cache,
    )[0]
    return out


def _keys_and_values(
    module: Any, stacked: dict[str, Tensor], sides: tuple[tuple[int, int], ...], slots: tuple[int, ...]
) -> Tensor:
    """Of the condition in all layers, [N, layers, 2, tokens, heads, d]."""
    untyped: Any = QwenImage21KVCache
    cache, text = untyped(len(module.transformer_blocks)), stacked["text"]
    image = text.new_zeros(len(text), OF_SLOT, module.config.in_channels)
    time = text.new_zeros(len(text))
    _asked(module, stacked, image, time, (*sides[:-1], SMALLEST), slots, kv_cache=cache, kv_cache_mode="extract")
    return torch.stack([torch.stack(layer.get(), dim=1) for layer in cache.layer_caches], dim=1)


def _cache(kept: Tensor) -> Any:
    untyped: Any = QwenImage21KVCache
    cache = untyped(kept.shape[1])
    for number, layer in enumerate(cache.layer_caches):
        layer.store(kept[:, number, 0], kept[:, number, 1])
    return cache


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
