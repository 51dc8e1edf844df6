"""The transformer of Stable Diffusion 3 at work: how it is built, and how it is asked about rows (see
model/family.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.tokens import padded, residuals
from ..kits.unet_network import plain

__all__ = ["PreparedSD3", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> SD3Transformer2DModel:
    """An empty transformer, from the arguments of its class. Its table of places is in the file."""
    with torch.device("meta"):
        return SD3Transformer2DModel(**plain(config))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class PreparedSD3:
    """The values that are the same for all questions about an entry."""

    text: Tensor
    """[T, D]"""
    pooled: Tensor


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedSD3:
    if entry.text is None or entry.pooled is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_text",
                    "Stable Diffusion 3 is asked with a text, and the conditioning has none",
                    hint="encode the prompt with its text encoders (TripleCLIPLoader)",
                )
            ]
        )
    most = config.denoiser.pos_embed_max_size * config.denoiser.patch_size
    if max(shape[-2:]) > most:
        pixels = [side * config.latent.factor for side in (*shape[-2:], most)]
        raise GraphFlowError(
            [
                Problem(
                    "wrong_size",
                    f"an image of {pixels[1]} x {pixels[0]} pixels is larger than the {pixels[2]} that this "
                    "model has places for along a side",
                    hint="make a smaller image and enlarge it afterwards",
                )
            ]
        )
    return PreparedSD3(entry.text.float(), entry.pooled.float())


def row(config: Config, ask: Ask, prepared: PreparedSD3) -> Row:
    time = torch.tensor(ask.sigma * 1000.0, dtype=torch.float32)
    stacked = {"x": ask.x, "time": time, "text": prepared.text, "pooled": prepared.pooled}
    return Row(stacked | {f"residual.{name}": residual for name, residual in ask.residuals.items()})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 16, h, w], time [N], text [N, T, D], pooled [N, P] -> out [N, 16, h, w]."""
    dtype, x = module.dtype, stacked["x"]
    out = module(
        hidden_states=torch.stack([padded(latent) for latent in x]).to(dtype),
        encoder_hidden_states=stacked["text"].to(dtype),
        pooled_projections=stacked["pooled"].to(dtype),
        timestep=stacked["time"],
        block_controlnet_hidden_states=residuals(stacked, "block", dtype, len(module.transformer_blocks), whole=False),
        return_dict=False,
    )[0]
    return {"out": out[..., : x.shape[-2], : x.shape[-1]]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
