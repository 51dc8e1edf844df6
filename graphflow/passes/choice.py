"""How many runs share forward passes: decided once for a run, when it begins.

A pass of more rows costs less a row, if enough of its rows are asked for. The bits of an image depend on the size of
its passes, so the number is part of its recipe, and is kept with the run, whatever else runs later.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["passes_for"]

FACTORS = (16, 8, 4, 2)
FULL_ENOUGH = 0.75
"""The part of a pass that must be asked for to pay. Measured with the built-in model at 64 px: a row of a full pass of
16 takes 0.62 of the time of a row in a sampler's own pass of two, so half a pass would lose."""
PAYS = 0.97
"""Of the cost of a row in a run's own passes: one of a shared pass must cost less."""


def passes_for(most: int, waiting: int, at_work: Mapping[int, int], costs: Mapping[int, float] | None = None) -> int:
    """With how many others, itself included, a run should share passes: 1, 2, 4, 8 or 16, at most `most`.

    `waiting`: runs like it that are about to begin. `at_work`: the number for runs like it at work -> how many.
    `costs`: the measured seconds of a row for each number. A number that costs more than a run's own passes is not
    used; of the others the cheapest is. One that was not tried lately is tried, as are a run's own passes.
    """
    costs = costs or {}
    own = costs.get(1)
    possible = [
        factor
        for factor in FACTORS
        if factor <= most and 1 + waiting + at_work.get(factor, 0) >= max(2, FULL_ENOUGH * factor)
    ]
    for factor in possible:
        if factor not in costs:
            return factor
    worth = [factor for factor in possible if own is not None and costs[factor] < PAYS * own]
    return min(worth, key=lambda factor: costs[factor], default=1)
