"""What the forward passes of one run cost."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from ..events import Event, NodeAnew, PassesMade

__all__ = ["PassTally", "costs_measured"]


class PassTally:
    """Adds up the events of one run. Not thread-safe: the caller keeps threads apart."""

    def __init__(self) -> None:
        self._rows, self._seconds, self._own_seconds = 0, 0.0, 0.0
        self._has_own = True
        self._is_short = False

    def note(self, event: Event) -> None:
        match event:
            case NodeAnew():
                self._is_short = True
            case PassesMade(rows=rows, row=row, own_row=own_row) if row:
                self._rows += rows
                self._seconds += rows * row
                self._own_seconds += rows * own_row
                self._has_own = self._has_own and own_row > 0

    def to_json(self) -> dict[str, Any]:
        """`{row, own_row, short}`: seconds of a row in these passes, and in a run's own ones, as far as they were
        measured; whether the memory was too short for them."""
        found: dict[str, Any] = {"short": True} if self._is_short else {}
        if self._rows:
            found["row"] = self._seconds / self._rows
            if self._has_own:
                found["own_row"] = self._own_seconds / self._rows
        return found


def costs_measured(passes: int, found: Mapping[str, Any]) -> dict[int, float]:
    """What a run that shared its passes with so many has measured, by that number, from a tally in JSON."""
    if found.get("short"):
        return {passes: inf} if passes > 1 else {}
    measured = {1: found.get("own_row"), passes: found.get("row")}
    return {number: float(seconds) for number, seconds in measured.items() if seconds}
