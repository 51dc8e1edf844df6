"""The transformer of FLUX.3 at work: how it is built, and how it is asked about rows (see model/family.py).

A cell of the latent is a token. Places are (0, row / 2, column / 2, number): the number is 0 for the image that is
made, -1, -2 ... for its references, and counts the tokens of a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import Flux3Transformer2DModel
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.flow import latent_format
from ..kits.unet_network import plain

__all__ = ["PreparedFlux3", "back", "build", "forward", "prepare", "row"]

SCALE = 0.5
"""Between the places of two neighbouring cells."""


def build(config: Config) -> torch.nn.Module:
    """An empty transformer, from the arguments of its class."""
    made: Any = Flux3Transformer2DModel
    with torch.device("meta"):
        module: torch.nn.Module = made(**plain(config))
    return module


@dataclass(frozen=True, eq=False)
class PreparedFlux3:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    references: Tensor | None
    """Tokens of reference images, [m, C]."""
    sides: tuple[tuple[int, int], ...]
    """Rows and columns of x and of each reference."""
    flow_map: bool


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedFlux3:
    assert entry.text is not None, "checked before the run: the family needs a text"
    unit = latent_format(config)
    latents = [unit.into(latent[None])[0] for latent in entry.references]
    sides = tuple((int(one[-2]), int(one[-1])) for one in (shape, *(latent.shape for latent in latents)))
    references = torch.cat([latent.flatten(1).mT for latent in latents]) if latents else None
    return PreparedFlux3(entry.text.float(), references, sides, bool(config.denoiser.flow_map))


def row(config: Config, ask: Ask, prepared: PreparedFlux3) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(ask.sigma, dtype=torch.float32), "text": prepared.text}
    if prepared.flow_map:
        stacked["to"] = torch.tensor(ask.to, dtype=torch.float32)
    if prepared.references is not None:
        stacked["references"] = prepared.references
    return Row(stacked, common=prepared.sides)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D] and what stands beside -> out [N, C, h, w]."""
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    references = stacked.get("references")
    out = module(
        hidden_states=x.flatten(2).mT.to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=stacked["time"],
        target_timestep=stacked.get("to"),
        img_ids=_places(common[:1], 0, x.device),
        txt_ids=_numbers(text.shape[1], x.device),
        image_cond_hidden_states=None if references is None else references.to(dtype),
        image_cond_ids=None if references is None else _places(common[1:], -1, x.device),
        return_dict=False,
    )[0]
    return {"out": out.mT.reshape(x.shape)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def _places(sides: tuple[tuple[int, int], ...], first: int, device: torch.device) -> Tensor:
    """[tokens, 4] of images one after the other; their numbers go down from `first`. Must not be written to."""
    found = []
    for number, (rows, columns) in enumerate(sides):
        place = torch.zeros(rows, columns, 4, device=device)
        place[..., 1] = torch.arange(rows, device=device)[:, None] * SCALE
        place[..., 2] = torch.arange(columns, device=device) * SCALE
        place[..., 3] = first - number
        found.append(place.reshape(-1, 4))
    return torch.cat(found)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def _numbers(count: int, device: torch.device) -> Tensor:
    """[tokens of the text, 4]. Must not be written to."""
    found = torch.zeros(count, 4, device=device)
    found[:, 3] = torch.arange(count, device=device)
    return found
