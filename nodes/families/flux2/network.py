"""The transformer of FLUX.2 at work: how it is built, and how it is asked about rows (see model/family.py).

A cell of the latent is a token. Places are (image, row, column, token of the text): the image that is made is 0, its
references 10, 20 ...; a text has its number in the last.

Under `ReferencesAtZero` (klein for a cache of references) reference images have time 0 and see only each other: their
keys and values are asked for once a run, and are `kept` beside each row [layers, 2, tokens, heads, d].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2KVCache
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.flow import latent_format
from ..kits.unet_network import plain
from . import POSITIONS
from .references import AT_ZERO, KEEP

__all__ = ["PreparedFlux2", "back", "build", "forward", "prepare", "row"]

GUIDANCE = 3.5
"""Of dev, where a conditioning states none."""
APART = 10
"""Between the places of two images."""


def build(config: Config) -> Flux2Transformer2DModel:
    """An empty transformer, from the arguments of its class."""
    with torch.device("meta"):
        return Flux2Transformer2DModel(**plain(config))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class PreparedFlux2:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    guidance: float | None
    references: Tensor | None
    """Tokens of reference images, [m, C]."""
    sides: tuple[tuple[int, int], ...]
    """Rows and columns of x and of each reference."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedFlux2:
    assert entry.text is not None, "checked before the run: the family needs a text"
    method = entry.reference_method or POSITIONS[0]
    if method not in POSITIONS:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_method",
                    f"FLUX.2 cannot place reference images by {method!r}",
                    hint="choose index in FluxKontextMultiReferenceLatentMethod, or leave the node out",
                )
            ]
        )
    guidance = None
    if config.denoiser.guidance_embeds and not entry.extra.get("no_guidance"):
        guidance = GUIDANCE if entry.guidance is None else entry.guidance
    unit = latent_format(config)
    latents = [unit.into(latent[None])[0] for latent in entry.references]
    sides = tuple((int(one[-2]), int(one[-1])) for one in (shape, *(latent.shape for latent in latents)))
    references = torch.cat([_tokens(latent) for latent in latents]) if latents else None
    return PreparedFlux2(entry.text.float(), guidance, references, sides)


def row(config: Config, ask: Ask, prepared: PreparedFlux2) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(ask.sigma, dtype=torch.float32), "text": prepared.text}
    if prepared.guidance is not None:
        stacked["guidance"] = torch.tensor(prepared.guidance, dtype=torch.float32)
    if prepared.references is not None:
        stacked["references"] = prepared.references
    return Row(stacked, common=prepared.sides)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D] and what stands beside -> out [N, C, h, w]."""
    if common and common[0] == KEEP:
        return {"kept": _keys_and_values(module, stacked, common[1])}
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    kept: dict[str, Any] = {}
    tokens = x.flatten(2).mT
    count, places = tokens.shape[1], _places(common, x.device)
    if "kept" in stacked:
        places, kept = places[:count], {"kv_cache": _cache(module, stacked["kept"]), "kv_cache_mode": "cached"}
    elif "references" in stacked:
        references = stacked["references"].to(tokens)
        if getattr(module, AT_ZERO, False):  # code of others asks, and keeps nothing
            tokens, places = torch.cat([references, tokens], dim=1), torch.cat([places[count:], places[:count]])
            kept = {"kv_cache_mode": "extract", "num_ref_tokens": references.shape[1]}
        else:
            tokens = torch.cat([tokens, references], dim=1)
    out = module(
        hidden_states=tokens.to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=stacked["time"],
        guidance=stacked.get("guidance"),
        img_ids=places,
        txt_ids=_numbers(text.shape[1], x.device),
        return_dict=False,
        **kept,
    )[0]
    return {"out": out[:, :count].mT.reshape(x.shape)}


def _keys_and_values(module: Any, stacked: dict[str, Tensor], sides: tuple[tuple[int, int], ...]) -> Tensor:
    """Of the references in all layers, [N, layers, 2, tokens, heads, d]."""
    references = stacked["references"].to(module.dtype)
    count, device = references.shape[1], references.device
    text = references.new_zeros(len(references), 1, module.config.joint_attention_dim)
    cache = module(
        hidden_states=torch.cat([references, references[:, :1]], dim=1),  # the class takes them before the image here
        encoder_hidden_states=text,
        timestep=torch.zeros(len(references), device=device),
        guidance=stacked.get("guidance"),
        img_ids=torch.cat([_places(sides, device)[-count:], _places(sides, device)[:1]]),
        txt_ids=_numbers(1, device),
        return_dict=False,
        kv_cache_mode="extract",
        num_ref_tokens=count,
    )[1]
    layers = (*cache.double_block_caches, *cache.single_block_caches)
    return torch.stack([torch.stack(layer.get(), dim=1) for layer in layers], dim=1)


def _cache(module: Any, kept: Tensor) -> Flux2KVCache:
    untyped: Any = Flux2KVCache
    cache = untyped(len(module.transformer_blocks), len(module.single_transformer_blocks))
    cache.num_ref_tokens = kept.shape[3]
    for number, layer in enumerate((*cache.double_block_caches, *cache.single_block_caches)):
        layer.store(kept[:, number, 0], kept[:, number, 1])
    found: Flux2KVCache = cache
    return found


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()


def _tokens(latent: Tensor) -> Tensor:
    """[C, h, w] -> [h w, C]."""
    return latent.flatten(1).mT


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def _places(sides: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """[tokens of x and of the references, 4]. Must not be written to."""
    found = []
    for number, (rows, columns) in enumerate(sides):
        place = torch.zeros(rows, columns, 4, device=device)
        place[..., 0] = APART * number
        place[..., 1] = torch.arange(rows, device=device)[:, None]
        place[..., 2] = torch.arange(columns, device=device)
        found.append(place.reshape(-1, 4))
    return torch.cat(found)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def _numbers(count: int, device: torch.device) -> Tensor:
    """[tokens of the text, 4]. Must not be written to."""
    found = torch.zeros(count, 4, device=device)
    found[:, 3] = torch.arange(count, device=device)
    return found
