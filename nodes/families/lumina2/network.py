"""Lumina 2 at work. Captions are padded to a multiple of 32 tokens, and every pass masks the padding.

diffusers' own `forward` masks only where the rows of a pass differ in length, so a row would depend on its neighbours;
here its modules are called one after the other, always with a mask. The time is 1 - sigma, and the answer is the
negative velocity.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Lumina2Transformer2DModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_lumina2 import Lumina2RotaryPosEmbed
from torch import Tensor
from torch.nn.functional import pad

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from ..kits.next_dit import PATCH
from ..kits.unet_network import plain

__all__ = ["back", "build", "forward", "prepare", "row"]

BUCKET = 32
THETA = 10000


def build(config: Config) -> torch.nn.Module:
    """An empty network, from the arguments of its class."""
    made: Any = Lumina2Transformer2DModel
    with torch.device("meta"):
        module: torch.nn.Module = made(**plain(config))
    # A table of positions that the class computes when it is made; `forward` here computes those that it needs.
    module.rope_embedder = Lumina2RotaryPosEmbed(THETA, plain(config)["axes_dim_rope"])
    return module


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> Tensor:
    """The caption [T, D], without the tokens that its mask leaves out."""
    assert entry.text is not None, "checked before the run: this family needs a text"
    text, mask = entry.text.float(), entry.attention_mask
    return text[mask.bool()] if mask is not None and len(mask) == len(text) else text


def row(config: Config, ask: Ask, prepared: Tensor) -> Row:
    return Row(
        {
            "x": ask.x,
            "time": torch.tensor(1.0 - ask.time, dtype=torch.float32),
            "text": pad(prepared, (0, 0, 0, -len(prepared) % BUCKET)),
            "tokens": torch.tensor(len(prepared)),
        }
    )


@torch.inference_mode()
def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    """x [N, C, h, w], time [N], text [N, T, D] and how many of its tokens count [N] -> out [N, C, h, w]."""
    dtype, axes = module.dtype, module.config.axes_dim_rope
    x, tokens = stacked["x"].to(dtype), stacked["tokens"]
    rows, channels, height, width = x.shape
    grid = (height // PATCH, width // PATCH)
    time, text = module.time_caption_embed(x, stacked["time"], stacked["text"].to(dtype))
    places = torch.arange(text.shape[1], device=x.device)
    counts = places < tokens[:, None]
    text_turns = _turns(_positions(places.expand(rows, -1)), axes)
    image_turns = _turns(_image_positions(tokens, grid), axes)
    patches = x.view(rows, channels, grid[0], PATCH, grid[1], PATCH).permute(0, 2, 4, 3, 5, 1)
    image = module.x_embedder(patches.reshape(rows, grid[0] * grid[1], PATCH * PATCH * channels))
    for layer in module.context_refiner:
        text = layer(text, counts, text_turns)
    for layer in module.noise_refiner:
        image = layer(image, None, image_turns, time)
    both = torch.cat([text, image], dim=1)
    turns = torch.cat([text_turns, image_turns], dim=1)
    mask = torch.cat([counts, counts.new_ones(rows, image.shape[1])], dim=1)
    for layer in module.layers:
        both = layer(both, mask, turns, time)
    out = module.norm_out(both[:, text.shape[1] :], time)
    out = out.view(rows, *grid, PATCH, PATCH, module.out_channels).permute(0, 5, 1, 3, 2, 4)
    return {"out": out.reshape(rows, module.out_channels, height, width)}


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    return -answers["out"].float()


def _positions(places: Tensor) -> Tensor:
    """[N, T] -> [N, T, 3]: a token of the text is a place on the first axis."""
    return pad(places[..., None], (0, 2))


def _image_positions(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """[N] -> [N, h w, 3]: the end of the text, the row and the column of each patch."""
    rows, columns = torch.meshgrid(*(torch.arange(side, device=tokens.device) for side in grid), indexing="ij")
    ends = tokens[:, None].expand(-1, rows.numel())
    return torch.stack([ends, rows.flatten().expand_as(ends), columns.flatten().expand_as(ends)], dim=-1)


def _turns(positions: Tensor, axes: tuple[int, ...]) -> Tensor:
    """[N, T, 3] -> complex64 [N, T, D / 2]: the rotation of each pair of numbers of a head."""
    compute: Any = get_1d_rotary_pos_embed  # its annotation leaves out tensors
    exact = torch.float32 if positions.device.type == "mps" else torch.float64
    found = [
        compute(width, positions[..., axis].flatten(), theta=THETA, freqs_dtype=exact)
        for axis, width in enumerate(axes)
    ]
    return torch.cat(found, dim=-1).to(torch.complex64).view(*positions.shape[:2], -1)
