"""The rows that wait for a pass, and which of them make the next one. The caller keeps threads apart."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence

from ..model.row import Row
from .row_proof import RowProof
from .seats import Question, Seat, WaitingRow, key_of
from .turns import DeviceTurns, Rank

__all__ = ["WaitingRows"]

GRACE = 0.5
"""A pass waits for a sampler that has just been answered for at most this share of the time that a pass takes."""
MOST_GRACE = 0.05
"""Seconds; and in terms of passes, where these take long, at least:"""
MOST_GRACE_IN_PASSES = 0.05
"""On a machine with other work a thread wakes up late, and a pass of seconds that goes without it is made twice."""
FIRST_WAIT = 0.25
"""Seconds that the first question of a sampler waits for those that begin beside it, where nobody knows yet how long a
pass takes. Where that is known, it waits for one pass: so much is lost by each one that comes too late."""
SHORT_PAUSE = 0.25
"""A sampler that goes first keeps its turn between two of its questions, if it takes at most this share of a pass for
what lies between them."""
UNLIKE = "on this device the bits of a row depend on the rows beside it"


class WaitingRows:
    """Grouped by what rows must have in common to share a pass."""

    def __init__(self, turns: DeviceTurns, proof: RowProof) -> None:
        self.paces: dict[Hashable, float] = {}
        """Seconds of the last pass of each key."""
        self._turns, self._proof = turns, proof
        self._groups: OrderedDict[Hashable, deque[WaitingRow]] = OrderedDict()

    def add(self, asked: Question, rows: Sequence[Row], now: float) -> None:
        for index, row in enumerate(rows):
            key = key_of(asked.seat, asked.call, row)
            self._groups.setdefault(key, deque()).append(WaitingRow(row, asked, index, now))

    def drop_answered(self) -> None:
        """Forget rows whose question has its answer, or failed."""
        for key in list(self._groups):
            left = deque(waiting for waiting in self._groups[key] if not waiting.asked.done.done())
            if left:
                self._groups[key] = left
            else:
                del self._groups[key]

    def ready(self, seats: Iterable[Seat], now: float) -> tuple[list[WaitingRow] | None, float | None]:
        """The rows of the next pass; or None, and how many seconds to wait for more rows. `seats`: all of the device's
        samplers."""
        seats = [seat for seat in seats if not seat.waits]
        patience: float | None = None
        best: tuple[Rank, Hashable] | None = None
        for key, waiting in self._groups.items():
            first, pace = waiting[0], self.paces.get(key, 0.0)
            is_full = len(waiting) >= first.asked.seat.size or self._proof.denies(key)
            left = 0.0 if is_full else _worth_waiting(first, pace, seats) - now
            if left <= 0:
                rank = min(self._ranks(waiting, pace, now).values())
                best = (rank, key) if best is None or rank < best[0] else best
            else:
                patience = left if patience is None else min(left, patience)
        if best is None:
            return None, patience
        back = self.back_soon(seats, best[0], now)
        if back is not None:
            return None, back - now
        taken = self._taken(best[1], now)
        if len(taken) < taken[0].asked.seat.size:
            _go_without(taken[0].asked, seats)
        return taken, None

    def back_soon(self, seats: Iterable[Seat], rank: Rank, now: float) -> float | None:
        """The moment until which it is better to wait for a sampler that has just been answered and goes before all
        that wait; without that, two samplers would always take turns, and both end late."""
        for seat in seats:
            is_due = seat.left > 1 and now < seat.expected <= now + SHORT_PAUSE * seat.pace
            if is_due and self._turns.rank(seat.owner, (seat.left - 1) * seat.pace, 0.0, seat.pace) < rank:
                return seat.expected
        return None

    def _taken(self, key: Hashable, now: float) -> list[WaitingRow]:
        """The rows of a group whose turn it is; those of one sampler stay together."""
        pace = self.paces.get(key, 0.0)
        ranks = self._ranks(self._groups[key], pace, now)
        waiting = sorted(self._groups[key], key=lambda each: ranks[each.asked])
        size = waiting[0].asked.seat.size
        if self._proof.denies(key):
            mine = [each for each in waiting if each.asked.seat is waiting[0].asked.seat]
            waiting[0].asked.seat.work.alone = UNLIKE
            waiting = mine[:size] + [each for each in waiting if each not in mine[:size]]
            size = min(size, len(mine))
        if len(waiting) > size:
            self._groups[key] = deque(sorted(waiting[size:], key=lambda each: each.since))
        else:
            del self._groups[key]
        return waiting[:size]

    def _ranks(self, rows: Iterable[WaitingRow], pace: float, now: float) -> dict[Question, Rank]:
        """Of the questions of these rows: all rows of one are equal."""
        found: dict[Question, Rank] = {}
        for row in rows:
            if row.asked not in found:
                seat = row.asked.seat
                found[row.asked] = self._turns.rank(seat.owner, seat.left * pace, now - row.since, pace)
        return found


def _worth_waiting(first: WaitingRow, pace: float, seats: Iterable[Seat]) -> float:
    """The moment until which it is better to wait for rows of other samplers than to make a pass without them."""
    seat, until = first.asked.seat, first.since
    grace = min(GRACE * pace, max(MOST_GRACE, MOST_GRACE_IN_PASSES * pace))
    for_new = (pace or FIRST_WAIT) if seat.answered is None else grace
    if first.asked.call.shares and seat.run is not None and seat.run.others_come:
        until = first.since + for_new
    for other in _coming(first.asked, seats):
        if other.answered is None:
            until = max(until, first.since + for_new)
        else:
            latest = max(first.since, other.answered) + grace
            if other.answered + other.pause <= latest:
                until = max(until, latest)
    return until


def _coming(asked: Question, seats: Iterable[Seat]) -> Iterator[Seat]:
    """Of the samplers that wait for no answer, those whose next question, or first one, may share the pass."""
    mine, key = asked.seat, asked.call.key
    for seat in seats if asked.call.shares else ():
        if seat.is_late or seat.size != mine.size:
            continue
        if seat.asks == key or (seat.asks is None and _are_alike(seat, mine)):
            yield seat


def _are_alike(one: Seat, other: Seat) -> bool:
    return one.run is None or other.run is None or one.run.kind == other.run.kind


def _go_without(asked: Question, seats: Iterable[Seat]) -> None:
    """A pass is made that has room for those who did not come in time."""
    for seat in _coming(asked, seats):
        seat.is_late = True
    if asked.seat.run is not None:
        asked.seat.run.go_without()
