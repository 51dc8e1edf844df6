"""Calls of a network that hold code of others: the rows of one sampler alone, which that code sees.

A pass of such a call has the rows that were asked for and no copies that fill it up, so code that looks at all rows
sees no row twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..model.handles import WeightsHandle
from ..model.patch import CallPatch, Kind
from ..model.row import Row
from .guidance import NEGATIVE, Side

__all__ = ["OpaqueCall", "PassRows", "forward_of_rows", "marked", "number_of", "opaque_calls"]

MARK = "opaque_row"
"""Of the tensor [2] in `Row.stacked`: the number of the row in its question, and that of its side."""
ASKED = "cond."
"""The name of a side that code of others asks begins with it; its number follows."""
Forward = Callable[[torch.nn.Module, dict[str, Tensor], tuple[Any, ...], dict[str, list[Tensor]]], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class PassRows:
    """The rows of one pass."""

    sides: tuple[int, ...]
    """The number of each row's side: 0 is the positive, 1 the negative."""
    level: float
    """The noise level."""
    levels: tuple[float, ...]
    """All noise levels of the run, falling."""


@dataclass(frozen=True, eq=False)
class OpaqueCall(CallPatch):
    """Code of others inside a network, or around its call. Each is like no other but itself."""

    kind: ClassVar[Kind] = "opaque"
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def around(self, module: torch.nn.Module) -> AbstractContextManager[Any]:
        raise TypeError("code of others acts on rows: see around_rows")

    def around_rows(self, module: torch.nn.Module, rows: PassRows) -> AbstractContextManager[Any]:
        """The module is changed until the end of the block, and is then as it was before."""
        raise NotImplementedError

    @property
    def wraps(self) -> bool:
        """Whether `wrapped` acts."""
        return False

    def wrapped(self, apply: Callable[..., Tensor], given: Mapping[str, Any]) -> Tensor:
        """The clean latents [N, C, h, w] of rows, by `apply(x, sigmas, **c)`, which asks the network.

        `given`: `input` (the noisy latents, not scaled), `timestep` (the noise level of each row), `c` (what they are
        asked with) and `cond_or_uncond` (the numbers of the sides, each for an equal part of the rows).
        """
        raise NotImplementedError

    def under(self, options: Mapping[str, Any]) -> OpaqueCall:
        """The same for a call with other options, which the code around it has passed on."""
        return self

    def options_of(self, rows: PassRows, device: torch.device) -> dict[str, Any]:
        """The options that the code around a call is handed."""
        return {}


def opaque_calls(handle: WeightsHandle) -> list[OpaqueCall]:
    """In the order in which they act."""
    return [patch for patch in handle.patches if isinstance(patch, OpaqueCall)]


def number_of(side: Side) -> int:
    """0 is the positive, 1 the negative; a side that code of others asks has its place among those."""
    if side.name.startswith(ASKED):
        return int(side.name.removeprefix(ASKED))
    return int(side.name == NEGATIVE or side.is_negative)


def marked(row: Row, place: int, side: Side) -> Row:
    """The row with its place in the question."""
    return replace(row, stacked={**row.stacked, MARK: torch.tensor([place, number_of(side)])})


def forward_of_rows(
    forward: Forward, patches: Sequence[OpaqueCall], level: float, levels: tuple[float, ...]
) -> Forward:
    """`forward` of a network under code of others, for rows that are marked."""

    def call(
        module: torch.nn.Module, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]]
    ) -> dict[str, Tensor]:
        marks = stacked[MARK].tolist()
        count = len({place for place, _ in marks})
        rows = PassRows(tuple(side for _, side in marks[:count]), level, levels)
        own = {name: tensor[:count] for name, tensor in stacked.items() if name != MARK}
        with ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch.around_rows(module, rows))
            answers = forward(module, own, common, {name: items[:count] for name, items in ragged.items()})
        spare = len(marks) - count
        return {name: torch.cat([found, found[-1:].expand(spare, *found.shape[1:])]) for name, found in answers.items()}

    return call
