"""What passes of another size cost: some rows are asked once more in a pass of that size, right after one of the
sampler's own, and the answers are dropped.

A sampler that shares passes compares them with passes of the size that it would have alone; one that is alone, with
passes that it could share. So the costs of both come from one moment, and whether sharing pays is known for later runs.
This goes on for as long as there are runs, in a bounded part of the device's time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from math import inf

from graphflow.spi import is_shortage

__all__ = ["Comparisons"]

PART = 0.02
"""Of the time of passes: so much may go into comparing them. A sampler that is alone may lose no more than that."""
PART_AT_FIRST = 0.1
"""The same for the first comparisons of samplers that share passes: they save more than that, or it is to be known soon
that they do not."""
FIRST = 4
"""Comparisons of a key; the first of them does not count."""


class Comparisons:
    """Of one device; used by its thread alone."""

    def __init__(self, clock: Callable[[], float], cost_clock: Callable[[], float]) -> None:
        """`clock`: of the time that is spent; `cost_clock`: by which passes are compared."""
        self._clock, self._cost_clock = clock, cost_clock
        self._seconds: dict[Hashable, float] = {}
        """Of the last pass of a key."""
        self._broken: set[Hashable] = set()
        self._tries = Counter[Hashable]()
        self._worked = {False: 0.0, True: 0.0}
        self._spent = {False: 0.0, True: 0.0}
        """Seconds of the device, by whether samplers share the passes."""

    def worked(self, seconds: float, key: Hashable, is_shared: bool) -> None:
        """A pass of this key was made."""
        self._seconds[key] = seconds
        self._worked[is_shared] += seconds

    def may(self, key: Hashable, at_most: float, is_shared: bool) -> bool:
        """Whether there is time for a pass of a key. If none was made yet, it takes `at_most` so many seconds."""
        part = PART_AT_FIRST if is_shared and self._tries[key] < FIRST else PART
        after = self._spent[is_shared] + self._seconds.get(key, at_most)
        return key not in self._broken and after <= part * self._worked[is_shared]

    def cost(self, key: Hashable, forward: Callable[[], object], is_shared: bool) -> float | None:
        """The seconds of such a pass; infinite where the memory is too short for it. None: it is not known, since the
        first pass of a key prepares what the others find. What it raises is nobody's error."""
        self._tries[key] += 1
        began, cost_began = self._clock(), self._cost_clock()
        try:
            forward()
        except Exception as error:
            self._broken.add(key)
            return inf if is_shortage(error) else None
        finally:
            seconds = self._clock() - began
            self._spent[is_shared] += seconds
        cost, is_first = self._cost_clock() - cost_began, key not in self._seconds
        self._seconds[key] = seconds
        return None if is_first else cost
