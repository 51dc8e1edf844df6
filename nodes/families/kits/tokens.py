"""Latents as tokens of 2 x 2 cells, and their places: FLUX.1 and the families with its blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Grid", "pack", "padded", "positions", "residual_names", "residuals", "unpack"]

Grid = tuple[int, int, int, int, int]
"""index, rows, columns, first row, first column; in tokens."""


def padded(latent: Tensor) -> Tensor:
    """[..., h, w] with even sides: what lacks is taken from the other end, as if the image went round."""
    height, width = latent.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return latent
    return F.pad(latent[None], (0, width % 2, 0, height % 2), mode="circular")[0]


def pack(latent: Tensor) -> Tensor:
    """[C, h, w] -> [h/2 w/2, 4 C]: of a token all cells of the first channel, then of the next."""
    channels, height, width = latent.shape
    cells = latent.reshape(channels, height // 2, 2, width // 2, 2)
    return cells.permute(1, 3, 0, 2, 4).reshape(height // 2 * (width // 2), channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """[N, h/2 w/2, 4 C] -> [N, C, h, w]."""
    count, _, size = tokens.shape
    cells = tokens.reshape(count, height // 2, width // 2, size // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(count, size // 4, height, width)


def residual_names(kind: str, count: int, repeated: bool = False) -> list[str]:
    """The names of what a control network with `count` blocks adds to the blocks of a kind, in their order.

    Each block of the network acts on several of the transformer that follow each other; with `repeated` the blocks of
    the network act in turn, over and over.
    """
    rule = "turns" if repeated else "spread"
    return [f"{kind}.{rule}{count}.{number}" for number in range(count)]


def residuals(
    stacked: Mapping[str, Tensor], kind: str, dtype: torch.dtype, blocks: int, whole: bool = True
) -> list[Tensor] | None:
    """The residuals of a kind for a transformer with so many blocks, as diffusers' classes take them: one for each
    block, or fewer that it spreads; None where there are none.

    `whole`: blocks are spread by a whole number of them (FLUX.1, Qwen-Image), else by a share (Stable Diffusion 3).
    """
    begin = f"residual.{kind}."
    groups: dict[str, list[Tensor]] = {}
    for name in (name for name in stacked if name.startswith(begin)):
        groups.setdefault(name.removeprefix(begin).split(".")[0], [])
    for group, found in groups.items():
        count = int(group.removeprefix("turns").removeprefix("spread"))
        found += [stacked[f"{begin}{group}.{number}"].to(dtype) for number in range(count)]
    if not groups:
        return None
    if len(groups) == 1 and "spread" in next(iter(groups)):
        return next(iter(groups.values()))

    def place(group: str, count: int, block: int) -> int:
        if group.startswith("turns"):
            return block % count
        return block // -(-blocks // count) if whole else block * count // blocks

    return [
        sum((one[place(group, len(one), block)] for group, one in groups.items()), start=torch.zeros((), dtype=dtype))
        for block in range(blocks)
    ]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a training may take them, too
def positions(grids: Sequence[Grid], device: torch.device) -> Tensor:
    """The places (index, row, column) of the tokens of some grids, one after the other, [N, 3]. Must not be written
    to."""
    found = []
    for index, rows, columns, top, left in grids:
        place = torch.zeros(rows, columns, 3, device=device)
        place[..., 0] = index
        place[..., 1] = (torch.arange(rows, device=device) + top)[:, None]
        place[..., 2] = torch.arange(columns, device=device) + left
        found.append(place.reshape(-1, 3))
    return torch.cat(found)
