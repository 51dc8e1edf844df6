"""Rows in pairs: a row of the prompt with that of the negative beside it, for patches of calls that compare the two.

Both are computed in one pass, the negative ones behind the others, and the pass answers for the first of each pair. So
a pair is one row to the pass loop, and depends on nothing but itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.row import Row

__all__ = ["forward_of_pairs", "pair"]

Answers = dict[str, Tensor]
Forward = Callable[[torch.nn.Module, dict[str, Tensor], tuple[Any, ...], dict[str, list[Tensor]]], Answers]
CONTEXT = "context"
"""The text of a U-Net, [T, D]: tokens that stand there twice count as once."""
MOST = 4
"""A text is repeated at most so often to be as long as the other."""


def pair(one: Row, other: Row) -> Row:
    """Both rows as one: stacked tensors [2, ...]. Texts of U-Nets are repeated to a common length.

    Raises a Problem where the rows have other shapes, or see other things beside them.
    """
    first, second = dict(one.stacked), dict(other.stacked)
    if CONTEXT in first and CONTEXT in second:
        first[CONTEXT], second[CONTEXT] = _of_one_length(first[CONTEXT], second[CONTEXT])
    alike = {name: tensor.shape for name, tensor in first.items()} == {name: t.shape for name, t in second.items()}
    if not alike or one.common != other.common or one.ragged or other.ragged:
        raise GraphFlowError(
            [
                Problem(
                    "unlike_rows",
                    "the prompt and the negative are compared inside the network, and one of them is longer or has "
                    "images beside it",
                    hint="make both equally long in tokens, with the same images and controls",
                )
            ]
        )
    return Row({name: torch.stack([first[name], second[name]]) for name in first}, one.common)


def forward_of_pairs(forward: Forward) -> Forward:
    """`forward` of a network, for rows that are pairs."""

    def call(
        module: torch.nn.Module, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]]
    ) -> Answers:
        found = forward(module, {name: one.transpose(0, 1).flatten(0, 1) for name, one in stacked.items()}, common, {})
        return {name: answer[: len(answer) // 2] for name, answer in found.items()}

    return call


def _of_one_length(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    length = math.lcm(len(one), len(other))
    if length > MOST * min(len(one), len(other)):
        return one, other
    return one.repeat(length // len(one), 1), other.repeat(length // len(other), 1)
