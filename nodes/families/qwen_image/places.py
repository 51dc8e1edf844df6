"""Where the tokens of Qwen-Image stand: their places in layers, rows and columns, and how these turn queries and keys.

Each image has the middle of its rows and columns at 0 (of an odd number the one in the middle). The latent is layer 0;
references are the layers behind it, or -1 for Layered. The text stands on the diagonal, behind the latent (arXiv
2508.02324, section 2.4). ComfyUI has it there, and images are to be the same; the class of diffusers has it behind the
largest of all images, and the middle of an odd number one further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["Grid", "RowLayout", "Places", "Positions", "places_of"]

THETA = 10000


@dataclass(frozen=True, slots=True)
class Grid:
    """The tokens of one image."""

    layer: int
    """Of its first frame."""
    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        return self.frames * self.height * self.width


@dataclass(frozen=True, slots=True)
class Places:
    """Of all tokens of one row."""

    grids: tuple[Grid, ...]
    """Of the latent, then of each reference image."""
    words: int
    """Of the first word of the text, on all three axes."""


class RowLayout(list[tuple[int, int, int]]):
    """The input of the class for one row (frames, height, width of each image), with the places it came from."""

    def __init__(self, places: Places) -> None:
        super().__init__((grid.frames, grid.height, grid.width) for grid in places.grids)
        self.places = places


# A value for torch.export: a network that is asked with one is traced for it, so its code can be stored.
pytree.register_pytree_node(
    RowLayout,
    lambda layout: ([], layout.places),
    lambda _, places: RowLayout(places),
    serialized_type_name="graphflow_nodes.qwen_image.RowLayout",
    flatten_with_keys_fn=lambda layout: ([], layout.places),
)


def places_of(shapes: Sequence[tuple[int, ...]], patch: int, layered: bool) -> Places:
    """Of the latent and of reference images, [C, frames, h, w] each. `layered`: the latent's frames are layers of an
    image, references stand before them."""
    grids = tuple(
        Grid(-1 if layered and number else number, frames, height // patch, width // patch)
        for number, (_, frames, height, width) in enumerate(shapes)
    )
    words = max(grids[0].height // 2, grids[0].width // 2)
    return Places(grids, max(words, grids[0].frames) if layered else words)


class Positions(torch.nn.Module):
    """In place of the class's own embedding of positions, which knows no other places than those of its pipelines."""

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def forward(
        self, img_shapes: list[RowLayout], max_txt_seq_len: int, device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Complex numbers of length 1 for the tokens of the images and of the text, [n, half a head]."""
        # What is computed while the network is traced stands for no numbers: it must not be kept.
        turns = _turns.__wrapped__ if torch.compiler.is_compiling() else _turns
        return turns(self.axes, img_shapes[0].places, int(max_txt_seq_len), device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a training may take them, too
def _turns(axes: tuple[int, ...], places: Places, text: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    images = torch.cat([_cells(grid) for grid in places.grids])
    words = torch.arange(places.words, places.words + text)[:, None].expand(text, 3)
    return _turned(images, axes).to(device), _turned(words, axes).to(device)


def _cells(grid: Grid) -> Tensor:
    """[n, 3]: layer, row, column."""
    layers = torch.arange(grid.layer, grid.layer + grid.frames)
    rows = torch.arange(grid.height) - grid.height // 2
    columns = torch.arange(grid.width) - grid.width // 2
    return torch.cartesian_prod(layers, rows, columns)


def _turned(places: Tensor, axes: Sequence[int]) -> Tensor:
    """[n, 3] -> complex [n, half a head]: place times theta^(-2i/d), for each axis of d columns."""
    angles = [
        torch.outer(places[:, axis], 1.0 / torch.pow(THETA, torch.arange(0, size, 2).to(torch.float32).div(size)))
        for axis, size in enumerate(axes)
    ]
    found = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(found), found)
