"""Whether a silent process lacks nothing but time on a processor: on a machine with much other work it may get a
twentieth of one, and an import that keeps its other threads from running takes a second of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["Starving"]

MOST_OF = 0.5
"""Of the time between two looks: a thread that waited for a processor for longer was kept from working."""
NANOSECONDS = 1e9


class Starving:
    """Of one process. Where the system does not count how long threads wait, it never starves."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._threads = proc / str(pid) / "task"
        self._waited = self._waits()

    def has_starved(self, seconds: float) -> bool:
        """Whether a thread of it was ready to run, and waited, for most of the `seconds` since the last call."""
        before, self._waited = self._waited, self._waits()
        longest = max((now - before.get(thread, now) for thread, now in self._waited.items()), default=0.0)
        return longest > MOST_OF * seconds

    def _waits(self) -> dict[str, float]:
        """Seconds that each thread has waited for a processor: the second number of its `schedstat` (Linux)."""
        found: dict[str, float] = {}
        with suppress(OSError):
            for thread in self._threads.iterdir():
                with suppress(OSError, ValueError, IndexError):  # a thread may end meanwhile
                    found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / NANOSECONDS
        return found
