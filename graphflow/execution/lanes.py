"""Lanes: what of a device may be in use at the same time.

One node at a time is in a lane, but for nodes that do better together: several of one kind may be in it at once. First
come, first served, so a stream of samplers keeps nobody else waiting for ever.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Condition, Event

from ..problem import Cancelled

__all__ = ["Lanes"]

POLL = 0.1
"""Seconds between two looks at whether the run has been cancelled."""


class Lanes:
    """The lanes of an engine, shared by all its runs."""

    def __init__(self) -> None:
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    def enter(
        self, lane: str | None, cancel: Event, kind: Hashable = None, most: int = 1
    ) -> AbstractContextManager[None]:
        """Hold a place in the lane: alone, or with others of the same `kind` if `most` allows for several.

        Raises Cancelled if the run is cancelled while it waits.
        """
        return nullcontext() if lane is None else self._lanes[lane].hold(cancel, kind, most)


class _Lane:
    def __init__(self) -> None:
        self._changed = Condition()
        self._queue: deque[object] = deque()
        self._kind: Hashable = None
        self._inside = 0

    @contextmanager
    def hold(self, cancel: Event, kind: Hashable, most: int) -> Iterator[None]:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or not self._has_room(kind, most):
                    if cancel.is_set():
                        raise Cancelled()
                    self._changed.wait(POLL)
                self._inside += 1
                self._kind = kind
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _has_room(self, kind: Hashable, most: int) -> bool:
        return self._inside == 0 or (self._inside < most and kind is not None and kind == self._kind)
