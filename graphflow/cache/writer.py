"""A thread that writes results while the run goes on."""

from __future__ import annotations

import queue
from collections.abc import Callable
from threading import Condition, Event, Thread, current_thread

from .store import Alias, Change, Put, Replace

__all__ = ["Writer"]

WAITING = 256 << 20
"""Bytes that may wait to be written before a run is held up."""
AT_ONCE = 1000
"""Changes written in one transaction at most."""
SOON = 1.0
"""Seconds after which what `poke` announced is written, if nothing else is."""
_CHANGES = (Put, Alias, Replace)


class Writer:
    """`write(changes)` is called in the thread and must not raise; it returns whether the changes are on the disk now.
    After it, `done(change, kept)` is called for each of them.

    The thread starts with the first change.
    """

    def __init__(self, write: Callable[[list[Change]], bool], done: Callable[[Change, bool], None]) -> None:
        self._write, self._done = write, done
        self._changes: queue.SimpleQueue[Change | Event | None] = queue.SimpleQueue()
        self._changed = Condition()
        self._waiting = 0
        self._thread: Thread | None = None
        self._poked = False

    def put(self, change: Change) -> None:
        """Returns at once unless too much is waiting; always at once in the thread itself."""
        with self._changed:
            if current_thread() is not self._thread:
                self._changed.wait_for(lambda: self._waiting <= WAITING)
            self._waiting += _bytes(change)
        self._send(change)

    def poke(self) -> None:
        """There is something to write besides changes: `write` is called soon."""
        if not self._poked:
            self._poked = True
            self._send(None)

    def flush(self) -> None:
        """Wait until all that was put is written."""
        if self._thread is not None:
            event = Event()
            self._send(event)
            event.wait()

    def _send(self, item: Change | Event | None) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="graphflow-cache", daemon=True)
                self._thread.start()
        self._changes.put(item)

    def _run(self) -> None:
        while True:
            batch = self._next()
            self._poked = False
            changes = [item for item in batch if isinstance(item, _CHANGES)]
            kept = self._write(changes)
            with self._changed:
                self._waiting -= sum(map(_bytes, changes))
                self._changed.notify_all()
            for item in batch:
                if isinstance(item, Event):
                    item.set()
                elif item is not None:
                    self._done(item, kept)

    def _next(self) -> list[Change | Event | None]:
        batch = [self._changes.get()]
        try:
            if batch[0] is None:
                batch.append(self._changes.get(timeout=SOON))
            while len(batch) < AT_ONCE:
                batch.append(self._changes.get_nowait())
        except queue.Empty:
            pass
        return batch


def _bytes(change: Change) -> int:
    return sum(len(item.data or b"") for item in change.encoded or ()) if isinstance(change, Put) else 0
