"""A thread that writes results while the run goes on."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Event, Thread, current_thread
from typing import TypeAlias

from ..values import Encoded
from .entry import Entry, Origin
from .leases import Lease
from .rows import Replaced

__all__ = ["Again", "Job", "Store", "Writer"]

WAITING = 256 << 20
"""Bytes that may wait to be written before a run is held up."""
AT_ONCE = 1000
"""Jobs written in one transaction at most."""
SOON = 1.0
"""Seconds after which what `poke` announced is written, if nothing else is."""


@dataclass(frozen=True, slots=True)
class Store:
    """One entry to be kept; the lease is given back when other processes can find it."""

    recipe: bytes
    key: bytes | None
    entry: Entry
    encoded: tuple[Encoded, ...]
    origin: Origin
    ui: str | None
    """JSON."""
    lease: Lease | None = None
    states: tuple[bytes, ...] = ()
    """Names of the checkpoints that are of no use once the entry is on the disk."""


@dataclass(frozen=True, slots=True)
class Again:
    """A recipe is to share the entry that is known by the key."""

    recipe: bytes
    key: bytes
    origin: Origin


Job: TypeAlias = Store | Again | Replaced


class Writer:
    """`write(jobs)` is called in the thread and must not raise; it gives whether the jobs are on the disk now, which
    `done(job, kept)` is told, after it, for each job.

    The thread starts with the first job.
    """

    def __init__(self, write: Callable[[list[Job]], bool], done: Callable[[Job, bool], None]) -> None:
        self._write, self._done = write, done
        self._jobs: queue.SimpleQueue[Job | Event | None] = queue.SimpleQueue()
        self._changed = Condition()
        self._waiting = 0
        self._thread: Thread | None = None
        self._poked = False

    def put(self, job: Job) -> None:
        """Returns at once unless too much is waiting; always at once in the thread itself."""
        with self._changed:
            if current_thread() is not self._thread:
                self._changed.wait_for(lambda: self._waiting <= WAITING)
            self._waiting += _bytes(job)
        self._send(job)

    def poke(self) -> None:
        """There is something to write that is no job: `write` is called soon."""
        if not self._poked:
            self._poked = True
            self._send(None)

    def flush(self) -> None:
        """Wait until all that was put is written."""
        if self._thread is not None:
            event = Event()
            self._send(event)
            event.wait()

    def _send(self, item: Job | Event | None) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="graphflow-cache", daemon=True)
                self._thread.start()
        self._jobs.put(item)

    def _run(self) -> None:
        while True:
            batch = self._next()
            self._poked = False
            jobs = [item for item in batch if isinstance(item, Job)]
            kept = self._write(jobs)
            with self._changed:
                self._waiting -= sum(map(_bytes, jobs))
                self._changed.notify_all()
            for item in batch:
                if isinstance(item, Job):
                    self._done(item, kept)
                elif item is not None:
                    item.set()

    def _next(self) -> list[Job | Event | None]:
        batch = [self._jobs.get()]
        try:
            if batch[0] is None:
                batch.append(self._jobs.get(timeout=SOON))
            while len(batch) < AT_ONCE:
                batch.append(self._jobs.get_nowait())
        except queue.Empty:
            pass
        return batch


def _bytes(job: Job) -> int:
    return sum(len(item.data or b"") for item in job.encoded) if isinstance(job, Store) else 0
