"""Which nodes compute at the same time: decided here for all runs of an engine, and nowhere else.

A node declares a lane (`@node(lane=...)`), for a device that it has for itself. It may declare that several of its
type share the lane (`together=True`), and that its work is made in turns with that of other runs (`in_turns=True`): so
a text is encoded, or a short sampler done, between the steps of a long one. First come, first served, so a stream of
samplers keeps nobody else waiting for ever.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Condition, Event

from ..nodetype.node import NodeType
from ..problem import Cancelled
from ..settings import Settings

__all__ = ["Admission", "LaneRequest", "fits", "place_of"]

POLL = 0.1
"""Seconds between two looks at whether the run has been cancelled."""


@dataclass(frozen=True, slots=True)
class LaneRequest:
    """A lane that a node needs in order to compute, with at most so many of its type in it."""

    lane: str
    type: str
    most: int = 1
    in_turns: bool = False
    """It may be beside those of other runs that are in turns, too."""
    devices: int = 1
    """Those of its type are spread over so many devices."""


def place_of(kind: NodeType, settings: Settings) -> LaneRequest | None:
    """None: it needs no lane, and any number of it may compute at once."""
    if kind.lane is None:
        return None
    if not kind.together:
        return LaneRequest(kind.lane, kind.name, in_turns=kind.in_turns)
    devices = len(settings.devices)
    return LaneRequest(kind.lane, kind.name, settings.together * devices, kind.in_turns, devices)


def fits(place: LaneRequest, inside: Sequence[LaneRequest]) -> bool:
    """Whether one more may enter a lane beside those of the same run that are inside: the lane is empty, or they are of
    its type, and fewer than may share it."""
    return not inside or (inside[0].type == place.type and len(inside) < place.most)


class Admission:
    """The lanes of an engine, shared by all its runs."""

    def __init__(self) -> None:
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    def enter(self, place: LaneRequest | None, cancel: Event) -> AbstractContextManager[int]:
        """Hold a place until the end of the block; the number of the device that it is on. Raises Cancelled if the run
        is cancelled while it waits for it.

        `cancel` stands for the run as well: who has the same one belongs to the same run.
        """
        return _ANYWHERE if place is None else self._lanes[place.lane].hold(place, cancel)


_ANYWHERE = nullcontext(0)


class _Lane:
    def __init__(self) -> None:
        self._changed = Condition()
        self._queue: deque[object] = deque()
        self._inside: list[tuple[LaneRequest, Event, int]] = []

    @contextmanager
    def hold(self, place: LaneRequest, cancel: Event) -> Iterator[int]:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or not self._has_room(place, cancel):
                    if cancel.is_set():
                        raise Cancelled()
                    self._changed.wait(POLL)
                held = place, cancel, self._device_for(place)
                self._inside.append(held)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield held[2]
        finally:
            with self._changed:
                self._inside.remove(held)
                self._changed.notify_all()

    def _has_room(self, place: LaneRequest, run: Event) -> bool:
        beside = [
            other for other, its_run, _ in self._inside if its_run is run or not (place.in_turns and other.in_turns)
        ]
        return fits(place, beside)

    def _device_for(self, place: LaneRequest) -> int:
        """The first device with fewer than may share it; where all are full, the one with the fewest."""
        if place.devices == 1:
            return 0
        counts = Counter(device for other, _, device in self._inside if other.devices > 1)
        each = place.most // place.devices
        return min(
            range(place.devices), key=lambda device: (counts[device] >= each, counts[device] >= each and counts[device])
        )
