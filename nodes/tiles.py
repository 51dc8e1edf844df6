r"""A large image or latent through a network that takes small ones: tile by tile, blended where tiles overlap.

.. math:: y = \frac{\sum_i w_i \, f(x_i)}{\sum_i w_i}, \qquad
          w_i(p) = \prod_{axes} \min(1, (p + 1) / r) \cdot \min(1, (n - p) / r)

`p` is the place in a tile of `n` cells, `r` the overlap in cells of the output: linear ramps on all edges. Where one
tile alone covers a cell they cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["in_tiles", "tile_count"]


def in_tiles(
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: tuple[int, int],
    overlap: int,
    scale: Fraction,
    on_tile: Callable[[], None] = lambda: None,
    cut: bool = False,
) -> Tensor:
    """`call` on x [..., h, w] in tiles of (rows, columns), which overlap by so many; the result is `scale` times as
    large.

    `call` gives float32 [..., scale * rows, scale * columns] on the CPU. `on_tile` hears of each tile when it is done,
    and may raise to stop. With `cut` the last tiles of a side are smaller where it ends; else they end there, whole.
    """
    import torch

    height, width = x.shape[-2:]
    total = weights = None
    spans = (_spans(side, size, overlap, cut) for side, size in zip((height, width), tile, strict=True))
    for (top, rows), (left, columns) in product(*spans):
        part = call(x[..., top : top + rows, left : left + columns])
        if total is None or weights is None:
            total = torch.zeros(*part.shape[:-2], int(height * scale), int(width * scale))
            weights = torch.zeros(int(height * scale), int(width * scale))
        weight = _ramp(part.shape[-2], overlap * scale)[:, None] * _ramp(part.shape[-1], overlap * scale)
        at = (
            slice(int(top * scale), int(top * scale) + part.shape[-2]),
            slice(int(left * scale), int(left * scale) + part.shape[-1]),
        )
        total[(..., *at)] += weight * part
        weights[at] += weight
        on_tile()
    assert total is not None and weights is not None
    return total / weights


def tile_count(height: int, width: int, tile: tuple[int, int], overlap: int, cut: bool = False) -> int:
    """How many tiles there are."""
    return sum(1 for _ in _spans(height, tile[0], overlap, cut)) * sum(1 for _ in _spans(width, tile[1], overlap, cut))


def _spans(size: int, tile: int, overlap: int, cut: bool) -> Iterator[tuple[int, int]]:
    """(start, length) of the tiles along a side; the last one ends where the side does."""
    if size <= tile:
        yield 0, size
        return
    step = max(1, tile - overlap)
    if cut:
        yield from ((start, min(tile, size - start)) for start in range(0, max(1, size - min(overlap, tile - 1)), step))
        return
    for start in range(0, size - tile, step):
        yield start, tile
    yield size - tile, tile


def _ramp(size: int, length: Fraction) -> Tensor:
    import torch

    place = torch.arange(1, size + 1, dtype=torch.float32)
    length_ = max(1.0, float(length))
    return (place / length_).clamp(max=1.0) * (place.flip(0) / length_).clamp(max=1.0)
