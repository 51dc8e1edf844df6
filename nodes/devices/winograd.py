"""3 x 3 convolutions with fewer products: Winograd's minimal filtering, F(2 x 2, 3 x 3) and F(4 x 4, 3 x 3).

    Y = A^T [(G g G^T) * (B^T d B)] A       (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
                                             arXiv 1509.09308, eq. 8 and section 4)

A tile of m x m outputs takes (m + 2)^2 products for each pair of channels in place of 9 m^2: 2.25 times fewer for m = 2
and 4 times fewer for m = 4, at the price of two small products before and after. A direct convolution in float32 runs
at the peak of a processor's multipliers, so this is what is left to win there. Against float64, F(2 x 2) errs less than
the direct form, F(4 x 4) three times as much: 4e-6 of the norm of the values.

It is meant for compiled code, where the weights' part, `G g G^T`, is computed once, ahead. The rest is one operator:
written out, it would be so much code that a second process would need minutes to make it again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .products import are_by_onednn, product

__all__ = ["decomposed", "tile_side", "winograd"]

Matrix = tuple[tuple[float, ...], ...]
B: dict[int, Matrix] = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
G: dict[int, Matrix] = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
A: dict[int, Matrix] = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}

LEAST_CHANNELS = 64
"""With fewer the tiles' own products cost more than they save."""
START = 64
"""Places that one weight could have served in the time in which it is fetched."""
STRIP = 8 << 20
"""Bytes of tiles that are worked on at a time: they should stay in the processor's cache."""


def tile_side(places: int, height: int, width: int) -> int | None:
    """The m that takes the least time for an output of height x width in `places` rows of a batch; None: the direct
    form does."""

    def cost(products: int, served: int) -> int:
        return products * (served + START)

    forms = {m: cost((m + 2) ** 2, places * _tiles(height, m) * _tiles(width, m)) for m in (2, 4)}
    best = min(forms, key=lambda m: forms[m])
    return best if forms[best] < cost(9, places * height * width) else None


def _tiles(side: int, m: int) -> int:
    return -(-side // m)


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None, m: int) -> Tensor:
    """[N, C, H, W], [O, C, 3, 3] and [O] -> [N, O, H, W] in channels-last order: a convolution of stride 1 with zeros
    at the edges, in tiles of m x m (2 or 4)."""
    found: Tensor = torch.ops.graphflow.winograd(x, _transformed(weight, m), bias, m)
    return found


@torch.library.custom_op("graphflow::winograd", mutates_args=())
def _tiled(x: Tensor, transformed: Tensor, bias: Tensor | None, m: int) -> Tensor:
    """As `winograd`, of transformed weights [(m + 2)^2, O, C]."""
    side, (count, channels, height, width) = m + 2, x.shape
    down, across, outputs = _tiles(height, m), _tiles(width, m), transformed.shape[1]
    before, after = _twice(B[m], x), _twice(A[m], x)
    padded = _with_edges(x.permute(0, 2, 3, 1), down * m + 2, across * m + 2)
    found = x.new_empty(count, down * m, across * m, outputs)
    step = max(1, STRIP // (4 * side * side * count * across * channels))
    for first in range(0, down, step):
        rows = min(step, down - first)
        tiles = padded[:, first * m : (first + rows) * m + 2].unfold(1, side, m).unfold(2, side, m)
        tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(side * side, -1)
        found_in_tiles = _of_each(_multiplied(before, tiles).view(side * side, -1, channels), transformed)
        values = _multiplied(after, found_in_tiles.view(side * side, -1)).view(m, m, count, rows, across, outputs)
        target = found[:, first * m : (first + rows) * m].view(count, rows, m, across, m, outputs)
        torch.add(values.permute(2, 3, 0, 4, 1, 5), 0 if bias is None else bias, out=target)
    return found[:, :height, :width].permute(0, 3, 1, 2)


def _multiplied(one: Tensor, other: Tensor) -> Tensor:
    return product(one, other.t()) if are_by_onednn() else torch.mm(one, other)


def _of_each(tiles: Tensor, transformed: Tensor) -> Tensor:
    """[K, N, C] and [K, O, C] -> [K, N, O]."""
    if not are_by_onednn():
        return torch.bmm(tiles, transformed.transpose(1, 2))
    found = tiles.new_empty(*tiles.shape[:2], transformed.shape[1])
    for one, weight, target in zip(tiles, transformed, found, strict=True):
        target.copy_(product(one, weight))
    return found


def _with_edges(x: Tensor, height: int, width: int) -> Tensor:
    """[N, H, W, C] in [N, height, width, C]: zeros above and left of it, and in what is left below and right."""
    count, inner_height, inner_width, channels = x.shape
    found = x.new_empty(count, height, width, channels)
    for edge in (found[:, :1], found[:, inner_height + 1 :], found[:, :, :1], found[:, :, inner_width + 1 :]):
        edge.zero_()
    found[:, 1 : inner_height + 1, 1 : inner_width + 1] = x
    return found


@_tiled.register_fake
def _shape(x: Tensor, transformed: Tensor, bias: Tensor | None, m: int) -> Tensor:
    (count, _, height, width), outputs = x.shape, transformed.shape[1]
    down, across = _tiles(height, m) * m, _tiles(width, m) * m
    return x.new_empty(count, down, across, outputs)[:, :height, :width].permute(0, 3, 1, 2)


def _transformed(weight: Tensor, m: int) -> Tensor:
    """G g G^T of [O, C, 3, 3]: [(m + 2)^2, O, C]."""
    side, (outputs, inputs) = m + 2, weight.shape[:2]
    found = torch.mm(_twice(G[m], weight).double(), weight.double().reshape(outputs * inputs, 9).t())
    return found.to(weight.dtype).reshape(side * side, outputs, inputs)


def _twice(matrix: Matrix, like: Tensor) -> Tensor:
    """The matrix for both axes of a tile at once: its Kronecker product with itself."""
    single = torch.tensor(matrix, dtype=torch.float64, device=like.device)
    return torch.kron(single, single).to(like.dtype)


def decomposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    is_transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:
    """`aten.convolution` for a compiler's table of decompositions: NotImplemented where the direct form does."""
    is_plain = weight.dim() == 4 and tuple(weight.shape[2:]) == (3, 3) and groups == 1 and not is_transposed
    if not is_plain or any([*(n - 1 for n in stride), *(n - 1 for n in padding), *(n - 1 for n in dilation)]):
        return NotImplemented
    if x.dtype != torch.float32 or x.device.type != "cpu" or min(weight.shape[:2]) < LEAST_CHANNELS:
        return NotImplemented
    m = tile_side(x.shape[0], x.shape[2], x.shape[3])
    return NotImplemented if m is None else winograd(x, weight, bias, m)
