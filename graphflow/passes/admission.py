"""With how many others each run of an engine shares its forward passes: decided when it begins, by what was measured;
and what it measures is kept for later ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from ..events import Event
from .choice import passes_for
from .store import PassStore
from .tally import PassTally, costs_measured

__all__ = ["AdmittedRun", "PassAdmission"]


@dataclass(slots=True)
class AdmittedRun:
    """A run, or a sweep, that may share passes. It is at work until the end of a `with` block."""

    passes: int = 1
    """With how many others, itself included: `Settings.together`."""
    _on_end: Callable[[dict[int, float]], None] | None = None
    _tally: PassTally = field(default_factory=PassTally)
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> AdmittedRun:
        return self

    def __exit__(self, *_: object) -> None:
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

    def admit(self, likeness: str, work: str, most: int, waiting: int, is_new: bool = False) -> AdmittedRun:
        """A run begins. What it measures is kept, however it ends.

        `work` names all that it computes: the same work has the same number as last time, unless it `is_new`. `most`
        and `waiting` as in `passes_for`; the runs at work are those of this engine.
        """
        with self._lock:
            known = None if is_new else self.store.choice(work)
            if known is None or known > most:
                at_work = {number: count for (kind, number), count in self._at_work.items() if kind == likeness}
                known = passes_for(most, waiting, at_work, self.store.costs(likeness))
                self.store.choose(work, known)
            passes = known
            self._at_work[likeness, passes] += 1

        def end(costs: dict[int, float]) -> None:
            self.store.note(likeness, costs)
            with self._lock:
                self._at_work -= Counter({(likeness, passes): 1})

        return AdmittedRun(passes, end)
