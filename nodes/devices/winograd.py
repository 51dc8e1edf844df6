"""3 x 3 convolutions with fewer products: Winograd's minimal filtering, F(2 x 2, 3 x 3) and F(4 x 4, 3 x 3).

    Y = A^T [(G g G^T) * (B^T d B)] A       (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
                                             arXiv 1509.09308, eq. 8 and section 4)

A tile of m x m outputs takes (m + 2)^2 products for each pair of channels in place of 9 m^2: 2.25 times fewer for m = 2
and 4 times fewer for m = 4, at the price of two small products before and after. A direct convolution in float32 runs
at the peak of a processor's multipliers, so this is what is left to win there. Against float64, F(2 x 2) errs less than
the direct form, F(4 x 4) three times as much: 4e-6 of the norm of the values.

It is meant for compiled code: the weights' part `G g G^T` is then computed once, ahead, and the tiles are gathered by
one kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
STRIPS = 16
"""At most, of one convolution: each is code of its own."""


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
    side, (count, channels, height, width) = m + 2, x.shape
    down, across = _tiles(height, m), _tiles(width, m)
    transformed = _transformed(weight, m)
    before, after = _twice(B[m], x), _twice(A[m], x)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + across * m - width, 1, 1 + down * m - height))

    def rows_of_tiles(first: int, last: int) -> Tensor:
        """[N, (last - first) m, across m, O]"""
        part = padded[:, first * m : last * m + 2]
        tiles = part.unfold(1, side, m).unfold(2, side, m).permute(4, 5, 0, 1, 2, 3)
        inputs = torch.mm(before, tiles.reshape(side * side, -1)).reshape(side * side, -1, channels)
        products = torch.bmm(inputs, transformed)
        outputs = torch.mm(after, products.reshape(side * side, -1)).reshape(m, m, count, last - first, across, -1)
        return outputs.permute(2, 3, 0, 4, 1, 5).reshape(count, (last - first) * m, across * m, -1)

    step = max(1, STRIP // (4 * side * side * count * across * channels), _tiles(down, STRIPS))
    strips = [rows_of_tiles(first, min(first + step, down)) for first in range(0, down, step)]
    found = (strips[0] if len(strips) == 1 else torch.cat(strips, 1))[:, :height, :width]
    if bias is not None:
        found = found + bias
    return found.permute(0, 3, 1, 2)


def _transformed(weight: Tensor, m: int) -> Tensor:
    """G g G^T of [O, C, 3, 3]: [(m + 2)^2, C, O]."""
    side, (outputs, inputs) = m + 2, weight.shape[:2]
    found = torch.mm(_twice(G[m], weight).double(), weight.double().reshape(outputs * inputs, 9).t())
    return found.to(weight.dtype).reshape(side * side, outputs, inputs).transpose(1, 2).contiguous()


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
