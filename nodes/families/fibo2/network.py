"""The transformer of FIBO 2 at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import BriaFibo2Transformer2DModel
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.unet_network import plain

__all__ = ["PreparedFibo2", "back", "build", "forward", "prepare", "row"]

PLANES, LARGEST = 2048, 1024
"""Planes of tokens and images, and tokens along a side of an image, for which positions are computed ahead."""
REFERENCE = "reference."
"""The prefix of images to edit in a row, each of its own size."""


def build(config: Config) -> torch.nn.Module:
    """An empty transformer, from the arguments of its class."""
    made: Any = BriaFibo2Transformer2DModel
    with torch.device("meta"):
        module: torch.nn.Module = made(**plain(config), axes_lens=[PLANES, LARGEST, LARGEST])
    return module


@dataclass(frozen=True, eq=False)
class PreparedFibo2:
    """The values that are the same for all questions about an entry."""

    text: Tensor
    """[bundles, T, D]"""
    references: tuple[Tensor, ...]
    """Images to edit, [128, h, w] each."""


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> PreparedFibo2:
    assert entry.text is not None, "checked before the run: the family needs a text"
    text = entry.text.float()
    text = text.reshape(len(text), -1, config.denoiser.cap_feat_dim).movedim(1, 0)
    return PreparedFibo2(text, tuple(latent.float() for latent in entry.references))


def row(config: Config, ask: Ask, prepared: PreparedFibo2) -> Row:
    stacked = {"x": ask.x, "time": torch.tensor(ask.sigma, dtype=torch.float32), "text": prepared.text}
    return Row(stacked | {f"{REFERENCE}{number}": one for number, one in enumerate(prepared.references)})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 128, h, w], time [N], text [N, bundles, T, D], references [N, 128, h', w'] -> out [N, 128, h, w].

    The network takes the cells of the VAE, of which 2 x 2 are one of ours.
    """
    dtype = module.dtype
    count = sum(name.startswith(REFERENCE) for name in stacked)
    out = module(
        hidden_states=pixel_shuffle(stacked["x"], 2).to(dtype),
        timestep=stacked["time"],
        encoder_hidden_states=stacked["text"].to(dtype),
        context_latents=[pixel_shuffle(stacked[f"{REFERENCE}{number}"], 2).to(dtype) for number in range(count)],
        return_dict=False,
    )[0]
    return {"out": pixel_unshuffle(out, 2)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
