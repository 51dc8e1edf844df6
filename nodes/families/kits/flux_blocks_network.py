"""Transformers with the blocks of FLUX.1 and no vector of the text at work: how they are asked about rows.

Tokens are squares of 2 x 2 cells. The text stands on the diagonal, (0, i, i); images have places of their family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from .flow import latent_format
from .tokens import Grid, pack, padded, positions, unpack

__all__ = ["Prepared", "back", "forward", "prepared", "row"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    references: Tensor | None
    """Tokens of reference images, [m, D]."""
    grids: tuple[Grid, ...]
    """Of x and of each reference."""


def prepared(
    config: Config, entry: Entry, shape: tuple[int, ...], grid: Callable[[int, int, int, int], Grid]
) -> Prepared:
    """`grid` gives the places of an image from its number (0: x), its rows and columns, and the length of the text."""
    assert entry.text is not None, "checked before the run: the family needs a text"
    unit = latent_format(config)
    latents = [padded(unit.into(latent[None])[0]) for latent in entry.references]
    own = ((shape[-2] + 1) // 2, (shape[-1] + 1) // 2)
    sides = [own, *((one.shape[-2] // 2, one.shape[-1] // 2) for one in latents)]
    grids = tuple(grid(number, rows, columns, len(entry.text)) for number, (rows, columns) in enumerate(sides))
    references = torch.cat([pack(latent) for latent in latents]) if latents else None
    return Prepared(entry.text.float(), references, grids)


def row(config: Config, ask: Ask, made: Prepared) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(ask.sigma, dtype=torch.float32), "text": made.text}
    if made.references is not None:
        stacked["references"] = made.references
    return Row(stacked, common=made.grids)


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D] and references [N, m, D] -> out [N, C, h, w]."""
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    tokens = torch.stack([pack(padded(latent)) for latent in x])
    count = tokens.shape[1]
    if "references" in stacked:
        tokens = torch.cat([tokens, stacked["references"].to(tokens)], dim=1)
    out = module(
        hidden_states=tokens.to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=stacked["time"],
        img_ids=positions(common, x.device),
        txt_ids=_diagonal(text.shape[1], x.device),
        return_dict=False,
    )[0]
    _, rows, columns, *_ = common[0]
    return {"out": unpack(out[:, :count], rows * 2, columns * 2)[..., : x.shape[-2], : x.shape[-1]]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def _diagonal(count: int, device: torch.device) -> Tensor:
    """[tokens of the text, 3]. Must not be written to."""
    found = torch.zeros(count, 3, device=device)
    found[:, 1:] = torch.arange(count, device=device)[:, None]
    return found
