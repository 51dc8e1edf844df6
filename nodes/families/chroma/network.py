"""The transformer of Chroma at work: how it is built, and how it is asked about rows (see model/family.py)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ChromaTransformer2DModel
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.transformers.transformer_chroma import ChromaCombinedTimestepTextProjEmbeddings
from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.tokens import pack, padded, positions, unpack
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]


LAST = (342, 343)
"""The numbers of the last two modulations in the published depth (19 and 38 blocks), which have 344. ComfyUI keeps
these two for models of another depth, and counts all others from 0."""


def build(config: Config) -> ChromaTransformer2DModel:
    """An empty transformer, from the arguments of its class."""
    with torch.device("meta"):
        module: Any = ChromaTransformer2DModel(**plain(config))  # type: ignore[no-untyped-call]
    count, channels = 3 * config.num_single_layers + 2 * 6 * config.num_layers, config.approximator_num_channels // 4
    module.time_text_embed = ChromaCombinedTimestepTextProjEmbeddings(num_channels=channels, out_dim=count + 2)
    # A table that is computed and stands in no file.
    module.time_text_embed.mod_proj = get_timestep_embedding(
        torch.tensor([*range(count), *LAST]) * 1000, 2 * channels, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    found: ChromaTransformer2DModel = module
    return found


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The text, [T, D]."""
    assert entry.text is not None, "checked before the run: the family needs a text"
    return entry.text.float()


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    return Row({"x": ask.x, "time": torch.tensor(ask.sigma, dtype=torch.float32), "text": prepared})


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, 16, h, w], time [N], text [N, T, D] -> out [N, 16, h, w]."""
    dtype = module.dtype
    x, text = stacked["x"], stacked["text"]
    height, width = x.shape[-2:]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    out = module(
        hidden_states=torch.stack([pack(padded(latent)) for latent in x]).to(dtype),
        encoder_hidden_states=text.to(dtype),
        timestep=stacked["time"],
        img_ids=positions(((0, rows, columns, 0, 0),), x.device),
        txt_ids=torch.zeros(text.shape[1], 3, device=x.device),
        return_dict=False,
    )[0]
    return {"out": unpack(out, rows * 2, columns * 2)[..., :height, :width]}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return answers["out"].float()
