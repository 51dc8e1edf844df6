"""HyperTile: self-attention of a U-Net within tiles, which costs less for large images.

Tokens see those of their own tile alone. So that no seam stays at one place, each attention of the network has tiles of
its own: one of the `swap` smallest sizes that divide the side and are not below the size asked for, chosen by the name
of the layer. (ComfyUI draws the size by chance at each call; here equal questions have equal answers.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..model.patch import CallPatch
from .attention import processors_of
from .token_places import token_places

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["HyperTile", "tiles"]


@dataclass(frozen=True)
class HyperTile(CallPatch):
    """See above."""

    cells: int
    """The least side of a tile at the first level."""
    swap: int
    depth: int
    """The deepest level with tiles; 0 is the first."""
    grows: bool
    """Tiles of deeper levels are larger in tokens, by 2 a level."""

    def identity(self) -> Any:
        return ["hypertile", self.cells, self.swap, self.depth, self.grows]

    @contextmanager
    def around(self, module: Module) -> Iterator[None]:
        with token_places(module) as places:

            def made(name: str, before: Any) -> Any:
                def processor(attention: Any, hidden_states: Tensor, *given: Any, **named: Any) -> Tensor:
                    height, width, depth = places.grid(hidden_states.shape[1])
                    if depth > self.depth:
                        return before(attention, hidden_states, *given, **named)  # type: ignore[no-any-return]
                    least = self.cells * (2**depth if self.grows else 1)
                    down, across = (
                        tiles(side, least, self.swap, f"{name}.{axis}") for axis, side in enumerate((height, width))
                    )
                    found = before(attention, _cut(hidden_states, (height, width), (down, across)), *given, **named)
                    return _joined(found, (height, width), (down, across))

                return processor

            with processors_of(module, "*.attn1", made):
                yield


def tiles(side: int, least: int, swap: int, name: str) -> int:
    """How many tiles of equal size a side has: one of at most `swap` choices, by the name."""
    sizes = [size for size in range(min(least, side), side + 1) if side % size == 0][:swap]
    return side // sizes[crc32(name.encode()) % len(sizes)]


def _cut(x: Tensor, sides: tuple[int, int], counts: tuple[int, int]) -> Tensor:
    """[N, h w, C] -> [N tiles, tokens of a tile, C]"""
    (height, width), (down, across) = sides, counts
    parted = x.reshape(len(x), down, height // down, across, width // across, x.shape[-1])
    return parted.permute(0, 1, 3, 2, 4, 5).reshape(len(x) * down * across, -1, x.shape[-1])


def _joined(x: Tensor, sides: tuple[int, int], counts: tuple[int, int]) -> Tensor:
    (height, width), (down, across) = sides, counts
    parted = x.reshape(-1, down, across, height // down, width // across, x.shape[-1])
    return parted.permute(0, 1, 3, 2, 4, 5).reshape(len(parted), height * width, x.shape[-1])
