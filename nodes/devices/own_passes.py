"""What a sampler that shares passes would cost alone: some of its rows are asked once more, in a pass of the size that
it has alone, and the answers are dropped.

So the costs of both sizes come from one run, and whether sharing pays is known for the next one. It is done with the
first passes of a network and shape, and then no more for as long as the process lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import ceil
from statistics import fmean

__all__ = ["OwnPasses"]

TRIES = 3
"""The first of them prepares what the others find, and does not count."""


class OwnPasses:
    """Of one device; used by its thread alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds: dict[Hashable, list[float] | None] = {}
        """By the key of a pass; None: it could not be made."""

    def measure(self, key: Hashable, forward: Callable[[], object]) -> None:
        """Make one such pass, if some are still to be made. What it raises is nobody's error."""
        known = self._seconds.setdefault(key, [])
        if known is None or len(known) == TRIES:
            return
        began = self._clock()
        try:
            forward()
        except Exception:
            self._seconds[key] = None
        else:
            known.append(self._clock() - began)

    def row(self, key: Hashable, rows: int, size: int) -> float:
        """Seconds of each of so many rows that are asked at once, in passes of `size`; 0: not known."""
        known = self._seconds.get(key)
        return ceil(rows / size) * fmean(known[1:]) / rows if known is not None and len(known) == TRIES else 0.0
