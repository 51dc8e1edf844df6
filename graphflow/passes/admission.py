"""With how many others each run of an engine shares its forward passes: decided when it begins, by what was measured;
and what it measures is kept for later ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from ..arrivals import Arrivals, ExpectedRun
from ..events import Event
from .choice import CLEAR, FACTORS, passes_for
from .costs import PassCost
from .store import PassStore
from .tally import PassTally, costs_measured

__all__ = ["AdmittedRun", "PassAdmission"]


TRIED = {number: PassCost(calculated=CLEAR) for number in FACTORS}
"""Of nodes that ask no model, whose passes nobody calculates or measures: they share what they state to share."""


@dataclass(slots=True)
class AdmittedRun:
    """A run, or a sweep, that may share passes. It is at work until the end of a `with` block."""

    passes: int = 1
    """With how many others, itself included: `Settings.together`."""
    compare: int = 1
    """`Settings.compare`."""
    expected: ExpectedRun | None = None
    """`Settings.expected`."""
    _on_end: Callable[[dict[int, PassCost]], None] | None = None
    _tally: PassTally = field(default_factory=PassTally)
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> AdmittedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """The run is not at work any more; what it measured is noted."""
        if self.expected is not None:
            self.expected.is_here()
        if self._on_end is not None:
            self._on_end(costs_measured(self.passes, self._tally.to_json()))

    def heard(self, listen: Callable[[Event], None]) -> Callable[[Event], None]:
        """A listener that notes what passes cost, and hands every event on."""

        def note(event: Event) -> None:
            with self._lock:
                self._tally.note(event)
            listen(event)

        return note


class PassAdmission:
    """Thread-safe."""

    def __init__(self, store: PassStore) -> None:
        self.store = store
        self._lock = Lock()
        self._at_work: Counter[tuple[str, int]] = Counter()
        self._arrivals = Arrivals()

    def admit(
        self,
        likeness: str,
        work: str,
        most: int,
        waiting: int,
        behind: int = 0,
        is_new: bool = False,
        calculate: Callable[[], Mapping[int, float] | None] = dict,
    ) -> AdmittedRun:
        """A run begins. What it measures is kept, however it ends.

        `work` names all that it computes: the same work has the same number as last time, unless it `is_new`. `most`,
        `waiting` and `behind` as in `passes_for`; the runs at work are those of this engine. `calculate` gives the
        calculated costs where nothing is known of runs like it; None where no model is asked.
        """
        known = None if is_new else self.store.choice(work)
        costs = self.store.costs(likeness)
        if not costs and most > 1 and (waiting + behind or self._has_at_work(likeness)):
            calculated = calculate()
            if calculated is None:
                costs = TRIED
            else:
                costs = {number: PassCost(calculated=ratio) for number, ratio in calculated.items()}
                self.store.note(likeness, costs)
        with self._lock:
            at_work = {number: count for (kind, number), count in self._at_work.items() if kind == likeness}
            passes, compare = passes_for(most, waiting, at_work, costs, behind)
            if known is not None and known <= most:
                passes = known
            else:
                self.store.choose(work, passes)
            self._at_work[likeness, passes] += 1

        def end(found: dict[int, PassCost]) -> None:
            self.store.note(likeness, found)
            with self._lock:
                self._at_work -= Counter({(likeness, passes): 1})  # which drops what is at zero

        expected = self._arrivals.expect((likeness, passes)) if passes > 1 else None
        return AdmittedRun(passes, compare if passes == 1 else 1, expected, end)

    def _has_at_work(self, likeness: str) -> bool:
        with self._lock:
            return any(kind == likeness for kind, _ in self._at_work)
