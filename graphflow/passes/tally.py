"""What the forward passes of one run cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import inf
from typing import Any

from ..events import Event, NodeAnew, PassesMade
from .costs import KEPT, PassCost

__all__ = ["PassTally", "costs_measured"]


class PassTally:
    """Collects the events of one run. Not thread-safe: the caller keeps threads apart."""

    def __init__(self) -> None:
        self._ratios = defaultdict[int, list[float]](list)
        self._calculated: dict[int, float] = {}
        self._is_short = False

    def note(self, event: Event) -> None:
        match event:
            case NodeAnew():
                self._is_short = True
            case PassesMade(ratios=ratios, calculated=calculated):
                for number, found in ratios.items():
                    self._ratios[number] = [*self._ratios[number], *found][-KEPT:]
                for number, ratio in calculated.items():  # of several samplers, the one that gains least
                    self._calculated[number] = max(ratio, self._calculated.get(number, 0.0))

    def to_json(self) -> dict[str, Any]:
        """`{ratios, calculated, short}`: the cost of a row in passes that so many runs share, as a part of that in a
        run's own, as it was measured and as it is calculated; whether the memory was too short for shared passes."""
        found: dict[str, Any] = {"short": True} if self._is_short else {}
        if self._ratios:
            found["ratios"] = {str(number): ratios for number, ratios in self._ratios.items()}
        if self._calculated:
            found["calculated"] = {str(number): ratio for number, ratio in self._calculated.items()}
        return found


def costs_measured(passes: int, found: Mapping[str, Any]) -> dict[int, PassCost]:
    """What a run that shared its passes with so many has found out, by number, from a tally in JSON."""
    if found.get("short"):
        return {passes: PassCost((inf,))} if passes > 1 else {}
    ratios, calculated = found.get("ratios") or {}, found.get("calculated") or {}
    return {
        int(number): PassCost(tuple(map(float, ratios.get(number, ()))), calculated.get(number))
        for number in sorted({*ratios, *calculated}, key=int)
    }
