"""The nodes of a run that are under way: its own, and those that other runs compute for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from ..cache import CacheEntry
from ..nodetype.node import NodeType
from ..settings import Settings
from .admission import LaneRequest, fits, place_of
from .workers import Workers

__all__ = ["Flight", "Outcome", "SharedOutcome"]


class Outcome(NamedTuple):
    """A node of this run has been called."""

    node_id: str
    value: Any
    error: BaseException | None
    seconds: float


class SharedOutcome(NamedTuple):
    """Another run of this process has computed a node that this one needs, too; or (None) it failed."""

    node_id: str
    entry: CacheEntry | None


class Flight:
    """Belongs to the thread of the run; workers only put into its queue."""

    def __init__(self, workers: int, settings: Settings, is_elsewhere: Callable[[NodeType], bool]) -> None:
        """`is_elsewhere`: whether others compute nodes of a type, so that these need no place here."""
        self._settings, self._is_elsewhere = settings, is_elsewhere
        self._outcomes: SimpleQueue[Any] = SimpleQueue()
        self._workers = Workers(workers, settings.together * len(settings.devices), self._outcomes)
        self._own: dict[str, LaneRequest | None] = {}
        self._shared = 0
        self._in_lanes: dict[str, list[LaneRequest]] = {}
        """The places that nodes of this run have, or are about to have, in each lane."""

    def __len__(self) -> int:
        return len(self._own) + self._shared

    def has_room(self, kind: NodeType) -> bool:
        """Whether one more node of the type could compute beside those of this run: if not, it need not wait in a
        thread."""
        place = self._place(kind)
        return place is None or fits(place, self._in_lanes.get(place.lane, ()))

    def _place(self, kind: NodeType) -> LaneRequest | None:
        return None if self._is_elsewhere(kind) else place_of(kind, self._settings)

    def start(self, node_id: str, kind: NodeType, work: Callable[[], Any]) -> None:
        place = self._own[node_id] = self._place(kind)
        if place is not None:
            self._in_lanes.setdefault(place.lane, []).append(place)
        self._workers.start(node_id, work, kind.is_async, waits=place is not None and place.most > 1)

    def await_other(self, node_id: str, result: Future[CacheEntry | None]) -> None:
        """Another run of this process computes the same node."""
        self._shared += 1
        result.add_done_callback(lambda future: self._outcomes.put(SharedOutcome(node_id, future.result())))

    def next(self, timeout: float | None = None) -> Outcome | SharedOutcome | None:
        """The next outcome; None if there is none in this time."""
        try:
            found = self._outcomes.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(found, SharedOutcome):
            self._shared -= 1
            return found
        outcome = Outcome(*found)
        place = self._own.pop(outcome.node_id)
        if place is not None:
            self._in_lanes[place.lane].remove(place)
        return outcome

    def drain(self) -> Iterator[Outcome]:
        """Wait for the nodes of this run; those that other runs compute are left to them."""
        while self._own:
            outcome = self.next()
            if isinstance(outcome, Outcome):
                yield outcome

    def close(self) -> None:
        self._workers.close()
