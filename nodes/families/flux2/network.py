"""The transformer of FLUX.2 at work: how it is built, and how it is asked about rows (see model/family.py).

A cell of the latent is a token. Places are (image, row, column, token of the text): the image that is made is 0, its
references 10, 20 ...; a text has its number in the last.

Under `ReferencesAtZero` (klein for a cache of references) reference images are asked about at time 0 and see only each
other, so what the image sees of them is the same in all steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry, Row
from ..kits.flow import latent_format
from ..kits.unet_network import plain
from . import POSITIONS
from .references import AT_ZERO

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
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    apart: dict[str, Any]
    tokens = x.flatten(2).mT
    count, places, apart = tokens.shape[1], _places(common, x.device), {}
    if "references" in stacked:
        references = stacked["references"].to(tokens)
        if getattr(module, AT_ZERO, False):  # the class takes them before the image here
            tokens, places = torch.cat([references, tokens], dim=1), torch.cat([places[count:], places[:count]])
            apart = {"kv_cache_mode": "extract", "num_ref_tokens": references.shape[1]}
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
        **apart,
    )[0]
    return {"out": out[:, :count].mT.reshape(x.shape)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()


def _tokens(latent: Tensor) -> Tensor:
    """[C, h, w] -> [h w, C]."""
    return latent.flatten(1).mT


@lru_cache(maxsize=32)
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
def _numbers(count: int, device: torch.device) -> Tensor:
    """[tokens of the text, 4]. Must not be written to."""
    found = torch.zeros(count, 4, device=device)
    found[:, 3] = torch.arange(count, device=device)
    return found
