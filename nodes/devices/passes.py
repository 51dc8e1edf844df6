"""The pass loop of a device: one thread that makes all forward passes, shared by samplers whose rows may share one.

A sampler takes a seat and asks for rows. Rows with equal keys may share a pass, whoever asks for them: the key holds
the weights, the patches of the call, the shapes, and whatever else the call sees, so nothing that matters can differ.

Between two passes other work of the device has its turn, and `turns` decides whose questions go first: a pass is the
longest that one sampler makes another one wait.

A pass has a fixed size: 1, 2, 4, 8 or 16 rows, filled up with copies of its last row. The bits of a row depend on the
size of its pass and on nothing else (measured: a float32 matrix product of 1 to 3 rows has other bits than one of 4 and
more). The size of a seat is settled before its first question and never changes, so load and neighbours change no bit.
That was measured on CPUs; on other devices `row_proof` tests it.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Thread, current_thread
from typing import Any, TypeVar

import torch

from graphflow.spi import PassRecord

from ..model.row import Row
from .allocator import give_memory_back, keep_memory
from .forward import Answers, ForwardCall, forward
from .pass_counts import PassCounts, SeatWork
from .row_proof import RowProof
from .sizes import SIZES
from .turns import DeviceTurns, Rank

__all__ = ["PassCounts", "PassLoop", "Seat"]

T = TypeVar("T")
GRACE = 0.5
"""A question waits for neighbours for at most this share of the time that a pass takes."""
MOST_GRACE = 0.05
"""Seconds."""
IDLE = 2.0
"""Seconds without work after which the device gives the memory back that its passes left free."""
MIX = "rows of a pass influence each other in this network, or code of others acts in it"
UNLIKE = "on this device the bits of a row depend on the rows beside it"
SHORT_PAUSE = 0.25
"""A sampler that goes first keeps its turn between two of its questions, if it takes at most this share of a pass for
what lies between them."""


@dataclass(eq=False, slots=True)
class _Asked:
    """One question of a seat to one network: its rows, which may be answered by several passes."""

    seat: Seat
    call: ForwardCall
    left: int
    answers: list[Answers | None]
    done: Future[list[Answers]] = field(default_factory=Future)


@dataclass(eq=False, slots=True)
class _Waiting:
    row: Row
    asked: _Asked
    index: int
    since: float


@dataclass(eq=False, slots=True)
class _Call:
    """Other work of the device."""

    owner: Hashable
    call: Callable[[], Any]
    done: Future[Any]

    def settle(self) -> None:
        try:
            self.done.set_result(self.call())
        except BaseException as error:
            self.done.set_exception(error)


class PassLoop:
    """Thread-safe. `free` is called where memory is short, and returns whether it could free some."""

    def __init__(
        self,
        device: torch.device,
        free: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
        name: str = "",
        is_proven: bool | None = None,
    ) -> None:
        """`name`: of the device, where one is several: `cpu:1`. `is_proven`: bits of rows are known not to depend on
        those beside them; by default on a CPU."""
        self.device, self.name, self.counts = device, name or str(device), PassCounts()
        self._free, self._clock = free, clock
        self._changed = Condition()
        self._calls: list[_Call] = []
        self._turns = DeviceTurns()
        self._groups: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()
        self._seats: set[Seat] = set()
        self._paces: dict[Hashable, float] = {}
        self._proof = RowProof(is_needed=device.type != "cpu" if is_proven is None else not is_proven)
        self._thread: Thread | None = None

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Let the thread of the device make a call between two passes."""
        return self.run_for(None, call, *arguments)

    def run_for(self, owner: Hashable, call: Callable[..., T], *arguments: Any) -> T:
        """As `run`, on the account of an owner.

        A numeric library keeps a team of helpers for each thread that computes. Two teams on the same cores wait for
        each other, and all of them get two to three times slower.
        """
        if current_thread() is self._thread:
            return call(*arguments)
        done: Future[T] = Future()
        with self._changed:
            self._calls.append(_Call(owner, lambda: call(*arguments), done))
            self._wake()
        return done.result()

    @contextmanager
    def seat(self, size: int, owner: Hashable = None) -> Iterator[Seat]:
        """Take part until the end of the block, in passes of `size` rows, on the account of an owner."""
        if size not in SIZES:
            raise ValueError(f"a pass has {SIZES} rows, not {size}")
        seat = Seat(self, size, owner)
        with self._changed:
            self._seats.add(seat)
        try:
            yield seat
        finally:
            with self._changed:
                self._seats.remove(seat)
                self._changed.notify_all()

    def _ask(self, seat: Seat, call: ForwardCall, rows: Sequence[Row]) -> Future[list[Answers]]:
        asked = _Asked(seat, call, len(rows), [None] * len(rows))
        if not rows:
            asked.done.set_result([])
            return asked.done
        now = self._clock()
        with self._changed:
            seat.note_question(now)
            seat.work.alone = seat.work.alone if call.shares else MIX
            for index, row in enumerate(rows):
                key = _key(seat, call, row)
                self._groups.setdefault(key, deque()).append(_Waiting(row, asked, index, now))
            seat.waits, seat.asks = True, call.key
            self._wake()
        return asked.done

    def _wake(self) -> None:
        """Called with the lock held. The thread starts with the first question: a loop that nobody asks has none."""
        if self._thread is None:
            if self.device.type == "cpu":
                keep_memory()
            self._thread = Thread(target=self._serve, name=f"graphflow-{self.name}", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _serve(self) -> None:
        call_is_next = True  # in turns: neither a long sampler nor many short calls hold the device
        idle: float | None = None
        while True:
            group, call = self._next(call_is_next, idle)
            if group is None and call is None:
                give_memory_back()
                idle = None
                continue
            call_is_next, idle = group is not None, IDLE
            began = self._clock()
            if call is not None:
                call.settle()
                owners = {call.owner}
            elif group is not None:
                owners = {waiting.asked.seat.owner for waiting in group}
                self._pass(group)
            with self._changed:
                self.counts.calls += call is not None
                waiting_owners = {each.owner for each in self._calls} | {seat.owner for seat in self._seats}
                self._turns.charge(owners, self._clock() - began, waiting_owners)
            del group, call  # what was asked need not outlive its answer

    def _next(self, call_is_next: bool, idle: float | None) -> tuple[list[_Waiting] | None, _Call | None]:
        """The rows of the next pass, or a call; neither where nothing came within `idle` seconds."""
        with self._changed:
            while True:
                patience = None
                if not (self._calls and call_is_next):
                    group, patience = self._ready()
                    if group is not None:
                        return group, None
                if self._calls:
                    call = min(self._calls, key=lambda each: self._turns.account(each.owner))
                    self._calls.remove(call)
                    return None, call
                if not self._changed.wait(idle if patience is None else patience) and patience is None:
                    return None, None

    def _ready(self) -> tuple[list[_Waiting] | None, float | None]:
        """The rows of the next pass; or None, and how many seconds to wait for more rows."""
        now = self._clock()
        patience: float | None = None
        best: tuple[Rank, Hashable] | None = None
        for key, waiting in self._groups.items():
            first, pace = waiting[0], self._paces.get(key, 0.0)
            left = first.since + min(GRACE * pace, MOST_GRACE) - now
            is_full = len(waiting) >= first.asked.seat.size or self._proof.denies(key)
            if is_full or left <= 0 or not self._more_may_come(first.asked):
                rank = min(self._rank(each, pace, now) for each in waiting)
                best = (rank, key) if best is None or rank < best[0] else best
            else:
                patience = left if patience is None else min(left, patience)
        if best is None:
            return None, patience
        back = self._back_soon(best[0], now)
        return (None, back - now) if back is not None else (self._taken(best[1], now), None)

    def _back_soon(self, rank: Rank, now: float) -> float | None:
        """The moment until which it is better to wait for a sampler that has just been answered and goes before all
        that wait; without that, two samplers would always take turns, and both end late."""
        for seat in self._seats:
            is_due = not seat.waits and seat.left > 1 and now < seat.expected <= now + SHORT_PAUSE * seat.pace
            if is_due and self._turns.rank(seat.owner, (seat.left - 1) * seat.pace, 0.0, seat.pace) < rank:
                return seat.expected
        return None

    def _taken(self, key: Hashable, now: float) -> list[_Waiting]:
        """The rows of a group whose turn it is; those of one sampler stay together."""
        pace = self._paces.get(key, 0.0)
        waiting = sorted(self._groups[key], key=lambda each: self._rank(each, pace, now))
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

    def _rank(self, waiting: _Waiting, pace: float, now: float) -> Rank:
        seat = waiting.asked.seat
        return self._turns.rank(seat.owner, seat.left * pace, now - waiting.since, pace)

    def _more_may_come(self, asked: _Asked) -> bool:
        """Whether another sampler of the same network and size is at work on its next question."""
        return asked.call.shares and any(
            not seat.waits and seat.size == asked.seat.size and seat.asks == asked.call.key for seat in self._seats
        )

    def _pass(self, group: list[_Waiting]) -> None:
        try:
            self._answer(group)
        except BaseException as error:
            seats = {waiting.asked.seat for waiting in group}
            for seat in seats:  # each alone, at the same size and so with the same bits: only who is wrong fails
                mine = [waiting for waiting in group if waiting.asked.seat is seat]
                try:
                    if len(seats) == 1:
                        raise error
                    self._answer(mine)
                except BaseException as own:
                    self._fail(mine, own)

    def _fail(self, group: list[_Waiting], error: BaseException) -> None:
        for asked in {waiting.asked for waiting in group}:
            if not asked.done.done():
                asked.seat.waits = False
                asked.done.set_exception(error)
        with self._changed:  # other rows of those who failed need no answer
            for key in list(self._groups):
                left = deque(waiting for waiting in self._groups[key] if not waiting.asked.done.done())
                if left:
                    self._groups[key] = left
                else:
                    del self._groups[key]

    def _answer(self, group: list[_Waiting]) -> None:
        seat, call = group[0].asked.seat, group[0].asked.call
        rows = [waiting.row for waiting in group]
        rows = _filled(rows, seat.size)
        began = self._clock()
        answers = forward(call, rows, self.device, self._free)
        seconds = self._clock() - began
        parts: dict[Seat, list[int]] = {}
        for index, waiting in enumerate(group):
            parts.setdefault(waiting.asked.seat, []).append(index)
        if len(parts) > 1:
            answers = self._proof.checked(
                key=_key(seat, call, rows[0]),
                together=answers,
                parts=list(parts.values()),
                rows=[waiting.row for waiting in group],
                answers_of=lambda some: forward(call, _filled(some, seat.size), self.device, self._free),
            )
        self._paces[_key(seat, call, rows[0])] = seconds
        self.counts.passes[seat.size] += 1
        number = self.counts.passes.total()
        self.counts.rows += len(group)
        self.counts.shared += len(parts) > 1
        self.counts.seconds += seconds
        wall = time.time() - (self._clock() - began)
        for part, places in parts.items():
            waited = sum(began - group[index].since for index in places)
            part.work.note(PassRecord(number, wall, seconds, seat.size, len(places), len(group)), waited, call.name)
        for index, waiting in enumerate(group):
            asked = waiting.asked
            asked.answers[waiting.index] = {name: answer[index] for name, answer in answers.items()}
            asked.left -= 1
            if asked.left == 0 and not asked.done.done():
                asked.seat.note_answer(self._clock(), seconds)
                asked.done.set_result([answer for answer in asked.answers if answer is not None])


@dataclass(eq=False, slots=True)
class Seat:
    """A sampler's place at a device."""

    loop: PassLoop
    size: int
    owner: Hashable = None
    """Whose account it is on."""
    work: SeatWork = field(default_factory=SeatWork)
    left: int = 0
    """Questions that it has yet to ask, as far as it knows."""
    waits: bool = False
    asks: Hashable = None
    """The key of the network that it asked last."""
    pace: float = 0.0
    """Seconds of its last pass."""
    expected: float = 0.0
    """When its next question is due, by the time that it took for the last one."""
    _pause: float = 0.0
    _answered: float | None = None

    def note_question(self, now: float) -> None:
        if self._answered is not None:
            self._pause = now - self._answered

    def note_answer(self, now: float, seconds: float) -> None:
        self.waits, self.pace, self._answered = False, seconds, now
        self.expected = now + 2 * self._pause

    def ask(self, call: ForwardCall, rows: Sequence[Row]) -> list[Answers]:
        """The answers of the network to the rows, in their order: tensors without a row axis, on the device.

        Raises what the network raises, and a Problem where the memory is too short for a pass of this size.
        """
        return self.ask_later(call, rows).result()

    def ask_later(self, call: ForwardCall, rows: Sequence[Row]) -> Future[list[Answers]]:
        """The same without waiting: one question at a time."""
        return self.loop._ask(self, call, rows)


def _key(seat: Seat, call: ForwardCall, row: Row) -> Hashable:
    """The key that rows must have in common to share a pass."""
    return (
        call.key,
        seat.size,
        tuple((name, tensor.shape, tensor.dtype) for name, tensor in row.stacked.items()),
        tuple(row.ragged),
        row.common,
        None if call.shares else seat,
    )


def _filled(rows: list[Row], size: int) -> list[Row]:
    """The rows of a pass, with copies of the last one up to its size."""
    return rows + [rows[-1]] * (size - len(rows))
