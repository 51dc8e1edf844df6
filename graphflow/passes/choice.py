"""How many runs share forward passes: decided once for a run, when it begins.

A pass of more rows costs less a row, if enough of its rows are asked for. The bits of an image depend on the size of
its passes, so the number is part of its recipe, and is kept with the run, whatever else runs later.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf
from statistics import median
from typing import NamedTuple

from .costs import PassCost

__all__ = ["CLEAR", "FACTORS", "PassChoice", "passes_for"]

FACTORS = (16, 8, 4, 2)
FULL_ENOUGH = 0.75
"""The part of a pass that must be asked for to pay. Measured with the built-in model at 64 px: a row of a full pass of
16 takes 0.62 of the time of a row in a sampler's own pass of two, so half a pass would lose."""
PAYS = 0.97
"""Of the cost of a row in a run's own passes: one of a shared pass must cost less."""
SURE = 0.75
"""The share of measurements that must say so: on a machine with other work, two measurements of the same pass differ
by a fifth."""
ENOUGH = 3
"""Measurements from which on they count, and what was calculated does not."""
CLEAR = 0.75
"""A calculated cost up to which sharing is tried before it was measured. Calculated and measured costs differ by up to
a fifth."""


class PassChoice(NamedTuple):
    passes: int
    """With how many others a run shares its passes, itself included."""
    compare: int
    """A run in passes of its own compares some with passes that so many share; 1: it does not."""


def passes_for(
    most: int,
    waiting: int,
    at_work: Mapping[int, int],
    costs: Mapping[int, PassCost] | None = None,
    behind: int = 0,
) -> PassChoice:
    """With how many others, itself included, a run should share passes: 1, 2, 4, 8 or 16, at most `most`.

    `waiting`: runs like it that are about to begin. `at_work`: the number for runs like it at work -> how many.
    `behind`: further ones, which begin when those at work end, and then share with it whatever these do.
    `costs`: what is known of runs like it, by number. Of the numbers that pay the cheapest is used. Where none does,
    the run compares its own passes with those of the largest number that was not measured, or not for longest.
    """
    known = {number: (costs or {}).get(number, PassCost()) for number in FACTORS}
    possible = [
        number
        for number in FACTORS
        if number <= most and _together(number, waiting, at_work, behind) >= max(2, FULL_ENOUGH * number)
    ]
    worth = [number for number in possible if _pays(known[number])]
    if worth:
        return PassChoice(min(worth, key=lambda number: _middle(known[number])), 1)
    open_ = [number for number in possible if inf not in known[number].ratios and known[number].calculated != 1.0]
    unknown = (number for number in open_ if len(known[number].ratios) < ENOUGH)
    oldest = min(open_, key=lambda number: known[number].at, default=1)
    return PassChoice(1, next(unknown, oldest))


def _together(number: int, waiting: int, at_work: Mapping[int, int], behind: int) -> int:
    """How many runs will share passes, if the one that begins takes this number."""
    same = at_work.get(number, 0)
    return 1 + waiting + same + min(behind, sum(at_work.values()) - same)


def _pays(cost: PassCost) -> bool:
    """Whether sharing is clearly cheaper, beyond what measurements of the same differ by."""
    if inf in cost.ratios:
        return False
    if len(cost.ratios) < ENOUGH:
        return cost.calculated is not None and cost.calculated <= CLEAR
    return sorted(cost.ratios)[ceil(SURE * len(cost.ratios)) - 1] < PAYS


def _middle(cost: PassCost) -> float:
    return median(cost.ratios) if len(cost.ratios) >= ENOUGH or cost.calculated is None else cost.calculated
