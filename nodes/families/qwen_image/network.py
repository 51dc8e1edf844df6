"""The transformer of Qwen-Image at work: how it is built, and how it is asked about rows (see model/family.py).

A token is a square of 2 x 2 cells. The tokens of the latent come first, then those of each reference image; the answer
is that of the latent's. All that depends on sizes stands in `common`, since the class takes one layout for all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor
from torch.nn.functional import pad

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.tokens import residuals
from ..kits.unet_network import plain
from . import PATCH, QWEN_IMAGE
from .places import Places, Positions, RowLayout, places_of

__all__ = ["back", "build", "forward", "packed", "prepare", "row", "rows_of"]

METHODS = ("index", "index_timestep_zero", "negative_index")


def build(config: Config) -> QwenImageTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    kind: Any = QwenImageTransformer2DModel
    with torch.device("meta"):
        module: Any = kind.from_config(plain(config))
    module.pos_embed = Positions(config.axes_dims_rope)
    built: QwenImageTransformer2DModel = module
    return built


@dataclass(frozen=True, eq=False)
class PreparedQwenImage:
    """The values that are the same for all questions about an entry and a latent of one shape."""

    text: Tensor
    """[T, D]"""
    references: Tensor | None
    """Tokens of all reference images, model unit, [n, 64]."""
    places: Places
    zero_time: bool
    """The reference images are asked about at time 0."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedQwenImage:
    if entry.text is None:
        raise GraphFlowError([Problem("no_text", "Qwen-Image is asked with a text, and the conditioning has none")])
    denoiser = config.denoiser
    method = entry.reference_method or _method(denoiser)
    if entry.references and method not in METHODS:
        raise GraphFlowError(
            [
                Problem(
                    "reference_method",
                    f"Qwen-Image cannot place reference images by {method!r}",
                    hint=f"use one of: {', '.join(METHODS)}",
                )
            ]
        )
    latent = QWEN_IMAGE.latent(config)
    references = [_even(latent.into(_with_frames(one)[None])[0]) for one in entry.references]
    shapes = [tuple(shape), *(tuple(one.shape) for one in references)]
    return PreparedQwenImage(
        text=entry.text.float(),
        references=torch.cat([packed(one) for one in references]) if references else None,
        places=places_of(shapes, PATCH, method == "negative_index"),
        zero_time=bool(references) and method == "index_timestep_zero",
    )


def _method(denoiser: Config) -> str:
    """The way in which a model was trained to see reference images."""
    if denoiser.use_layer3d_rope:
        return "negative_index"
    return "index_timestep_zero" if denoiser.zero_cond_t else "index"


def row(config: Config, ask: Ask, prepared: PreparedQwenImage) -> Row:
    tokens = packed(ask.x)
    if prepared.references is not None:
        tokens = torch.cat([tokens, prepared.references.to(tokens.device)])
    stacked = {"x": tokens, "time": torch.tensor(ask.time, dtype=torch.float32), "text": prepared.text}
    for name, residual in ask.residuals.items():  # reference images are not steered
        stacked[f"residual.{name}"] = pad(residual, (0, 0, 0, len(tokens) - len(residual)))
    return Row(stacked, common=(prepared.places, prepared.zero_time))


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, n, 64], time [N], text [N, T, D] -> out [N, n of the latent, 64]."""
    places, zero_time = common
    _ask_at_zero(module, zero_time)
    x = stacked["x"].to(module.dtype)
    condition = None
    if module.config.use_additional_t_cond:
        condition = torch.zeros(len(x), dtype=torch.long, device=x.device)
    out = module(
        hidden_states=x,
        encoder_hidden_states=stacked["text"].to(module.dtype),
        timestep=stacked["time"],
        img_shapes=[RowLayout(places)] * len(x),
        additional_t_cond=condition,
        controlnet_block_samples=residuals(stacked, "block", module.dtype, len(module.transformer_blocks)),
        return_dict=False,
    )[0]
    return {"out": out[:, : places.grids[0].tokens]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    channels, frames, height, width = ask.x.shape
    tokens = answers["out"].float().reshape(frames, height // PATCH, width // PATCH, channels, PATCH, PATCH)
    return tokens.permute(3, 0, 1, 4, 2, 5).reshape(channels, frames, height, width)


def rows_of(name: str, count: int) -> slice:
    """The rows of what passes a module inside, of N rows asked at time 0 as well: the modules of time see them twice,
    first at their own times, then at time 0."""
    return slice(0, count)


def _ask_at_zero(module: Any, wanted: bool) -> None:
    """Whether the tokens of reference images are modulated by time 0: an attribute of the class and of its blocks."""
    if module.zero_cond_t != wanted:
        module.zero_cond_t = wanted
        for block in module.transformer_blocks:
            block.zero_cond_t = wanted


def _with_frames(latent: Tensor) -> Tensor:
    return latent if latent.dim() == 4 else latent[:, None]


def _even(latent: Tensor) -> Tensor:
    """[C, frames, h, w] with sides that are multiples of a token's; more rows and columns are those of the other
    end."""
    height, width = latent.shape[-2:]
    return pad(latent, (0, width % PATCH, 0, height % PATCH, 0, 0), mode="circular")


def packed(x: Tensor) -> Tensor:
    """[C, frames, h, w] -> [frames h/2 w/2, 4 C]; a token has its channels before its cells."""
    channels, frames, height, width = x.shape
    x = x.reshape(channels, frames, height // PATCH, PATCH, width // PATCH, PATCH)
    return x.permute(1, 2, 4, 0, 3, 5).reshape(-1, channels * PATCH * PATCH)
