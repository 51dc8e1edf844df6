"""The runs that share passes and have not asked for their first one yet: who comes first waits a little for them, since
runs that begin together make one pass less than runs of which one comes a moment late."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock

__all__ = ["Arrivals", "ExpectedRun"]


class Arrivals:
    """Of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._expected: dict[Hashable, set[ExpectedRun]] = {}
        self._listeners: set[Callable[[], None]] = set()

    def expect(self, kind: Hashable) -> ExpectedRun:
        """A run begins. Runs of one kind may share passes."""
        run = ExpectedRun(self, kind)
        with self._lock:
            self._expected.setdefault(kind, set()).add(run)
        return run

    def others(self, run: ExpectedRun) -> bool:
        with self._lock:
            return bool(self._expected.get(run.kind, set()) - {run})

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this, for good, when a run of any kind has come: those of a device look again, and are few."""
        with self._lock:
            self._listeners.add(listener)

    def came(self, run: ExpectedRun) -> None:
        with self._lock:
            expected = self._expected.get(run.kind, set())
            if run not in expected:
                return
            expected.remove(run)
            if not expected:
                del self._expected[run.kind]
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def give_up(self, kind: Hashable) -> None:
        """No run of this kind that was expected until now is waited for."""
        with self._lock:
            self._expected.pop(kind, None)


class ExpectedRun:
    """One run, or one sampler of a run."""

    __slots__ = ("_arrivals", "kind")

    def __init__(self, arrivals: Arrivals, kind: Hashable) -> None:
        self._arrivals, self.kind = arrivals, kind

    def is_here(self) -> None:
        """It asks for its first pass, or has ended without one."""
        self._arrivals.came(self)

    def sampler(self) -> ExpectedRun:
        """One of its samplers begins, and is expected in place of the run."""
        found = self._arrivals.expect(self.kind)
        self.is_here()
        return found

    @property
    def others_come(self) -> bool:
        """Whether other runs of its kind are expected."""
        return self._arrivals.others(self)

    def go_without(self) -> None:
        """The others were waited for in vain: nobody waits for them again."""
        self._arrivals.give_up(self.kind)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this, for good, when a run has come, or ended: one of the others, or one of those that begin later."""
        self._arrivals.listen(listener)
