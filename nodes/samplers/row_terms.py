r"""Low-rank terms of rows: each row of a pass with its own, so rows of different LoRAs share it.

At a Linear W a row with terms up [out, R] and down [R, in] has

.. math:: y = W x + up \, (down \, x)

The terms of all modules travel in the row as one vector, with their layout in `Row.common`: so rows share a pass only
where they change the same modules with the same ranks. Ranks are filled up with zeros to one of RANKS, so files of
ranks 4 and 8 may share. What a row gets depends on its own terms alone; with the size of the pass its bits are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.handles import WeightsHandle
from ..model.patch import RowPatch
from ..model.row import Row

__all__ = ["RANKS", "RowTerms", "forward_with_terms", "terms_of", "terms_on"]

RANKS = (8, 16, 32, 64, 128, 256, 512)
NAME = "row_terms"
"""Of the vector in `Row.stacked`."""
Answers = dict[str, Tensor]
Forward = Callable[[torch.nn.Module, dict[str, Tensor], tuple[Any, ...], dict[str, list[Tensor]]], Answers]
Layout = tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
"""(module, shape of up, shape of down) in the order of the vector."""


@dataclass(frozen=True, eq=False, slots=True)
class RowTerms:
    """The terms of a handle for one network."""

    layout: Layout
    vector: Tensor
    """float32, up and down of each module one after the other."""

    def to(self, device: torch.device, dtype: torch.dtype) -> RowTerms:
        """The terms where the network is, in the number format that it computes in."""
        return replace(self, vector=self.vector.to(device, dtype))

    def on(self, row: Row) -> Row:
        """The row with these terms."""
        return replace(row, stacked={**row.stacked, NAME: self.vector}, common=(*row.common, self.layout))

    def off(self, row: Row) -> Row:
        """The row as it was without them."""
        return replace(
            row, stacked={name: one for name, one in row.stacked.items() if name != NAME}, common=row.common[:-1]
        )


def terms_on(row: Row) -> RowTerms | None:
    """The terms that a row carries."""
    return RowTerms(row.common[-1], row.stacked[NAME]) if NAME in row.stacked else None


def terms_of(handle: WeightsHandle, part: str) -> RowTerms | None:
    """The terms of all patches of a handle that act by rows, in their order; None where there are none."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for patch in handle.patches:
        if isinstance(patch, RowPatch):
            for module, terms in patch.terms(part).items():
                found.setdefault(module, []).append(terms)
    if not found:
        return None
    layout, pieces = [], []
    for module in sorted(found):
        up = torch.cat([one for one, _ in found[module]], dim=1)
        down = torch.cat([other for _, other in found[module]], dim=0)
        spare = _bucket(up.shape[1]) - up.shape[1]
        up, down = F.pad(up, (0, spare)), F.pad(down, (0, 0, 0, spare))
        layout.append((module, tuple(up.shape), tuple(down.shape)))
        pieces += [up.flatten(), down.flatten()]
    return RowTerms(tuple(layout), torch.cat(pieces))


def forward_with_terms(forward: Forward) -> Forward:
    """`forward` of a network, for rows that carry terms."""

    def call(
        module: torch.nn.Module, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]]
    ) -> Answers:
        plain = {name: tensor for name, tensor in stacked.items() if name != NAME}
        with _terms_in(module, stacked[NAME], common[-1]):
            return forward(module, plain, common[:-1], ragged)

    return call


@contextmanager
def _terms_in(network: torch.nn.Module, vectors: Tensor, layout: Layout) -> Iterator[None]:
    """Each module of the layout adds its terms until the end of the block. vectors: [N, all terms]."""
    handles, at = [], 0
    try:
        for name, up_shape, down_shape in layout:
            module = network.get_submodule(name)
            middle = at + torch.Size(up_shape).numel()
            end = middle + torch.Size(down_shape).numel()
            weight: Any = getattr(module, "packed", None)  # has the shape and the format of what it unpacks to
            weight = module.weight if weight is None else weight
            rows = len(vectors)
            up = vectors[:, at:middle].reshape(rows, *up_shape).to(weight.dtype)
            down = vectors[:, middle:end].reshape(rows, *down_shape).to(weight.dtype)
            add: Callable[..., Tensor] = _to_linear
            if weight.dim() > 2:
                add, down = _to_convolution, down.reshape(*down.shape[:2], *weight.shape[1:])
            handles.append(module.register_forward_hook(partial(add, up=up, down=down)))
            at = end
        yield
    finally:
        for handle in handles:
            handle.remove()


def _to_linear(_: torch.nn.Module, inputs: tuple[Tensor, ...], answer: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x [N, ..., in]; up [N, out, R], down [N, R, in]."""
    x = inputs[0]
    flat = x.reshape(len(up), -1, x.shape[-1])  # raises where the first axis of x is not that of the rows
    return answer + (flat @ down.mT @ up.mT).reshape(answer.shape)


def _to_convolution(module: Any, inputs: tuple[Tensor, ...], answer: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x [N, in, h, w]; up [N, out, R], down [N, R, in, k, k]: one small convolution a row, so rows do not mix."""
    x = inputs[0]
    if x.shape[0] != len(up):
        raise ValueError("the rows of a convolution are not the rows of the pass")
    inner = torch.cat(
        [
            F.conv2d(one[None], kernel, None, module.stride, module.padding, module.dilation)
            for one, kernel in zip(x, down, strict=True)
        ]
    )
    return answer + (up @ inner.flatten(2)).reshape(answer.shape)


def _bucket(rank: int) -> int:
    return next((size for size in RANKS if size >= rank), rank)
