"""What of a run is under way: its own nodes, in the lanes that they share, and those that other runs compute for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from ..cache import Entry
from ..nodetype.node import NodeType
from .workers import Workers

__all__ = ["Borrowed", "Flight", "Landed"]


class Landed(NamedTuple):
    """A node of this run has come back."""

    node_id: str
    value: Any
    error: BaseException | None
    seconds: float


class Borrowed(NamedTuple):
    """What another run of this process got for a node that this one needs, too; None if it failed."""

    node_id: str
    entry: Entry | None


class Flight:
    """Belongs to the thread of the run; workers only put into its queue."""

    def __init__(self, workers: int, together: int) -> None:
        self._together = together
        self._landed: SimpleQueue[Any] = SimpleQueue()
        self._workers = Workers(workers, together, self._landed)
        self._own: dict[str, NodeType] = {}
        self._borrowed = 0
        self._in_lanes: dict[str, list[NodeType]] = {}
        """The types of the nodes that are in each lane, or about to enter it."""

    def __len__(self) -> int:
        return len(self._own) + self._borrowed

    def has_room(self, kind: NodeType) -> bool:
        """Whether the lane of the type takes one more: it is empty, or those in it are alike and work together."""
        inside = self._in_lanes.get(kind.lane) if kind.lane is not None else None
        return not inside or (kind.together and inside[0] is kind and len(inside) < self._together)

    def start(self, node_id: str, kind: NodeType, work: Callable[[], Any]) -> None:
        if kind.lane is not None:
            self._in_lanes.setdefault(kind.lane, []).append(kind)
        self._own[node_id] = kind
        self._workers.start(node_id, work, kind.is_async, kind.together)

    def borrow(self, node_id: str, result: Future[Entry | None]) -> None:
        """Another run of this process is at the same node."""
        self._borrowed += 1
        result.add_done_callback(lambda future: self._landed.put(Borrowed(node_id, future.result())))

    def land(self, timeout: float | None = None) -> Landed | Borrowed | None:
        """The next that comes back; None if nothing does in this time."""
        try:
            answer = self._landed.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(answer, Borrowed):
            self._borrowed -= 1
            return answer
        landed = Landed(*answer)
        kind = self._own.pop(landed.node_id)
        if kind.lane is not None:
            self._in_lanes[kind.lane].remove(kind)
        return landed

    def drain(self) -> Iterator[Landed]:
        """Wait for the nodes of this run; what others compute is left to them."""
        while self._own:
            landed = self.land()
            if isinstance(landed, Landed):
                yield landed

    def close(self) -> None:
        self._workers.close()
