"""The transformer of Kandinsky 5 at work: how it is built, and how it is asked about rows (see model/family.py).

An image is a video of one frame with its channels last. Texts are not padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import Kandinsky5Transformer3DModel
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.empty import EmptyParameters
from ..kits.tokens import padded
from ..kits.unet_network import plain
from . import LONGEST, PATCH, WIDEST

__all__ = ["PreparedKandinsky5", "back", "build", "forward", "prepare", "row"]


def build(config: Config) -> torch.nn.Module:
    """An empty transformer, from the arguments of its class."""
    made: Any = Kandinsky5Transformer3DModel
    with EmptyParameters():
        module = made(**plain(config))
    # The class expects the weights of the time in float32; here they have the format of all others.
    module.time_embeddings.in_layer.register_forward_pre_hook(lambda _, given: (given[0].to(module.dtype),))
    built: torch.nn.Module = module
    return built


@dataclass(frozen=True, eq=False)
class PreparedKandinsky5:
    """The values that are the same for all questions about an entry."""

    text: Tensor
    """[T, D]"""
    pooled: Tensor


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedKandinsky5:
    assert entry.text is not None and entry.pooled is not None, "checked before the run: this family needs both"
    if len(entry.text) > LONGEST:
        raise _too_large(f"a text of {len(entry.text)} tokens", f"{LONGEST:,} tokens", "shorten the prompt")
    if max(shape[-2:]) > WIDEST * PATCH:
        side = config.latent.factor
        found = f"an image of {shape[-1] * side} x {shape[-2] * side} pixels"
        raise _too_large(found, f"{WIDEST * PATCH * side:,} pixels a side", "make a smaller image and enlarge it")
    return PreparedKandinsky5(entry.text.float(), entry.pooled.float())


def _too_large(found: str, places: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem("wrong_size", f"{found}: this model has places for {places}", hint=hint)])


def row(config: Config, ask: Ask, prepared: PreparedKandinsky5) -> Row:
    time = torch.tensor(ask.sigma * 1000.0, dtype=torch.float32)
    return Row({"x": padded(ask.x), "time": time, "text": prepared.text, "pooled": prepared.pooled})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D], pooled [N, P] -> out [N, C, h, w]."""
    dtype, x, text = module.dtype, stacked["x"], stacked["text"]
    sides = (1, x.shape[-2] // PATCH, x.shape[-1] // PATCH)
    out = module(
        hidden_states=x[:, None].movedim(2, -1).to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=stacked["time"],
        pooled_projections=stacked["pooled"].to(dtype),
        visual_rope_pos=[torch.arange(side, device=x.device) for side in sides],
        text_rope_pos=torch.arange(text.shape[1], device=x.device),
        return_dict=False,
    )
    found = out[0] if isinstance(out, tuple) else out
    return {"out": found.movedim(-1, 2)[:, 0]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    height, width = ask.x.shape[-2:]
    return answers["out"].float()[..., :height, :width]
