r"""GLIGEN at work. With v the tokens of the image between the attentions of a block, and o those of the boxes:

.. math:: v \leftarrow v + \tanh(\alpha) \, \mathrm{attention}([v, o])_{v}, \quad
          v \leftarrow v + \tanh(\beta) \, \mathrm{ff}(v), \quad o = \mathrm{mlp}(text, fourier(box))

Places without a box have learned features. diffusers' classes do both; here they are put into the U-Net for a pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.embeddings import GLIGENTextBoundingboxProjection
from torch import Tensor, nn

from ...model.config import Config
from ...model.entry import Ask, Entry
from ...model.row import Row
from . import BOXES

__all__ = ["back", "build", "forward", "prepare", "row", "within"]

HEADS = 8
_PARTS = ("down_blocks", "mid_block", "up_blocks")


class _Gligen(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        projection: Any = GLIGENTextBoundingboxProjection
        self.position_net = projection(positive_len=config.text, out_dim=config.context, feature_type="text-only")
        gated: Any = GatedSelfAttentionDense
        self.fusers = nn.ModuleList(
            gated(query_dim=width, context_dim=config.context, n_heads=HEADS, d_head=width // HEADS)
            for width in config.widths
        )


def build(config: Config) -> torch.nn.Module:
    """An empty network."""
    with torch.device("meta"):
        return _Gligen(config)


def prepare(config: Config, entry: Entry, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The boxes of the one control that `entry` carries, as shares of the latent; filled up to BOXES with none."""
    (control,) = entry.controls
    given = control.hint[0].float()
    height, width = shape[-2:]
    texts, (rows, columns, top, left) = given[:, :-4], given[:, -4:].unbind(1)
    corners = torch.stack([left / width, top / height, (left + columns) / width, (top + rows) / height], dim=1)
    spare = BOXES - len(given)
    return {
        "texts": nn.functional.pad(texts, (0, 0, 0, spare)),
        "boxes": nn.functional.pad(corners, (0, 0, 0, spare)),
        "masks": nn.functional.pad(torch.ones(len(given)), (0, spare)),
    }


def row(config: Config, ask: Ask, prepared: dict[str, Tensor]) -> Row:
    """What the rows of the U-Net carry for it."""
    return Row(prepared)


@contextmanager
def within(unet: Any, network: Any, given: Mapping[str, Tensor]) -> Iterator[None]:
    """The U-Net sees the boxes until the end of the block. texts [N, 30, D], boxes [N, 30, 4], masks [N, 30]."""
    named = [(name, block) for name, block in unet.named_modules() if name.endswith("transformer_blocks.0")]
    blocks = [block for _, block in sorted(named, key=lambda one: _PARTS.index(one[0].split(".")[0]))]
    dtype = network.fusers[0].linear.weight.dtype
    boxes = {
        "boxes": given["boxes"].to(dtype),
        "positive_embeddings": given["texts"].to(dtype),
        "masks": given["masks"].to(dtype),
    }

    def enter(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return args, {
            **named,
            "cross_attention_kwargs": {**(named.get("cross_attention_kwargs") or {}), "gligen": boxes},
        }

    with ExitStack() as stack:
        stack.callback(unet.register_forward_pre_hook(enter, with_kwargs=True).remove)
        unet.position_net = network.position_net
        stack.callback(delattr, unet, "position_net")
        for block, fuser in zip(blocks, network.fusers, strict=True):
            block.fuser = fuser
            stack.callback(delattr, block, "fuser")
        yield


def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    raise TypeError("GLIGEN acts within a U-Net, and is not asked by itself")


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    raise TypeError("GLIGEN acts within a U-Net, and is not asked by itself")
