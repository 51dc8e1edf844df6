r"""How many rows a pass has. It is settled before a sampler's first step, from the graph and the settings alone.

A pass of n rows of c cells takes about as long as :math:`F + n c` cells, F being what it costs whatever its size:
calls, and the reading of the weights. Alone, a sampler of r rows has the size for which its passes take least,

.. math:: \min_n \; \lceil r / n \rceil \, (F + n c)

which is the smallest that holds them where latents are small, and wastes no large rows where they are large.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, prod

__all__ = ["SIZES", "cost_of_sharing", "factor", "size_of_passes"]

SIZES = (1, 2, 4, 8, 16)
FIXED = {"cpu": 512}
"""F by kind of device, in cells. Measured with a U-Net of SD 1.5's size on a CPU: 620 at 128 px, 750 at 256 px."""
FIXED_ELSEWHERE = 8192
CELLS = {"cpu": 8192}
"""The cells of a pass from which on sharing it with other samplers is not faster: beyond them nobody waits for
others."""
CELLS_ELSEWHERE = 65536


def size_of_passes(rows: int, shape: Iterable[int], together: int = 1, kind: str = "cpu") -> int:
    """The size for a sampler whose first step asks `rows` rows of latents of `shape` (without channels).

    Where up to `together` samplers share passes it may be larger than alone, as long as a pass of that size still pays.
    Measured: SD 1.5 at 128 px 1.7 times the images of one at a time, at 256 px 1.25 times, at 512 px none on a CPU; a
    transformer of 20 billion parameters on an H200 3.2 times at 512 px, 1.02 at 1024 px.
    """
    cells = prod(shape)
    fixed = FIXED.get(kind, FIXED_ELSEWHERE)
    own = min(reversed(SIZES), key=lambda size: ceil(rows / size) * (fixed + size * cells))
    if together <= 1:
        return own
    most = min(CELLS.get(kind, CELLS_ELSEWHERE) // max(cells, 1), _holding(rows) * factor(together))
    return max(own, *(size for size in SIZES if size <= most), own)


def cost_of_sharing(rows: int, shape: Iterable[int], kind: str = "cpu") -> dict[int, float]:
    """The calculated cost of a row in full passes that so many samplers share, as a part of that in a sampler's own
    passes; 1 where they have the same size."""
    cells = prod(shape)
    fixed = FIXED.get(kind, FIXED_ELSEWHERE)
    own = size_of_passes(rows, (cells,), 1, kind)
    alone = ceil(rows / own) * (fixed + own * cells) / rows
    sizes = {number: size_of_passes(rows, (cells,), number, kind) for number in SIZES[1:]}
    return {number: (fixed / size + cells) / alone if size > own else 1.0 for number, size in sizes.items()}


def factor(together: int) -> int:
    """How many times its own size a sampler's passes may have: the power of two at or above `together`, up to 16.

    It stands in the recipe in place of `together`.
    """
    return _holding(together)


def _holding(rows: int) -> int:
    """The smallest size that holds the rows; the largest where none does."""
    return next((size for size in SIZES if size >= rows), SIZES[-1])
