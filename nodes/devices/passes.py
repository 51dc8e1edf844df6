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

import atexit
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, isfinite
from threading import Condition, Thread, current_thread
from typing import Any, TypeVar

import torch

from graphflow.spi import ExpectedRun, PassRecord

from ..model.row import Row
from .allocator import give_memory_back, keep_memory
from .comparisons import Comparisons
from .forward import Answers, ForwardCall, forward
from .pass_clock import pass_clock
from .pass_counts import PassCounts
from .row_proof import RowProof
from .seats import Question, Seat, WaitingRow, filled, key_of
from .sizes import SIZES
from .turns import DeviceTurns
from .waiting_rows import WaitingRows

__all__ = ["PassCounts", "PassLoop", "Seat"]

T = TypeVar("T")
IDLE = 2.0
"""Seconds without work after which the device gives the memory back that its passes left free."""
CALLS_FIRST = 0.5
"""Of the time of a pass: other work goes first for so long after it. A run that begins encodes several texts."""
LINGER, LINGER_IN_PASSES = 0.02, 0.05
"""Seconds, and in terms of passes, that a device waits for more such work from the run whose work it has just done."""
MIX = "rows of a pass influence each other in this network, code of others acts in it, or calls of it are left out"


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
        cost_clock: Callable[[], float] | None = None,
    ) -> None:
        """`name`: of the device, where one is several: `cpu:1`. `is_proven`: bits of rows are known not to depend on
        those beside them; by default on a CPU. `cost_clock`: by which passes are compared; by default `pass_clock`."""
        self.device, self.name, self.counts = device, name or str(device), PassCounts()
        self._free, self._clock = free, clock
        self._changed = Condition()
        self._calls: list[_Call] = []
        self._turns = DeviceTurns()
        self._pass_ended, self._pass_took, self._lingers = 0.0, 0.0, 0.0
        self._seats: set[Seat] = set()
        self._cost_clock = cost_clock or pass_clock(device)
        self._comparisons = Comparisons(clock, self._cost_clock)
        self._proof = RowProof(is_needed=device.type != "cpu" if is_proven is None else not is_proven)
        self._waiting = WaitingRows(self._turns, self._proof)
        self._thread: Thread | None = None
        self._ends = False

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
    def seat(self, size: int, owner: Hashable = None, other: int = 0, run: ExpectedRun | None = None) -> Iterator[Seat]:
        """Take part until the end of the block, in passes of `size` rows, on the account of an owner. `other`: the size
        of passes that some of these are compared with: the one that it would have alone, or would share. `run`: among
        those that share passes; the first of them waits a little for the others."""
        if size not in SIZES:
            raise ValueError(f"a pass has {SIZES} rows, not {size}")
        seat = Seat(self._ask, size, owner, other, run)
        if run is not None:
            run.listen(self._look_again)
        with self._changed:
            self._seats.add(seat)
        try:
            yield seat
        finally:
            with self._changed:
                self._seats.remove(seat)
                self._changed.notify_all()

    def _ask(self, seat: Seat, call: ForwardCall, rows: Sequence[Row]) -> Future[list[Answers]]:
        asked = Question(seat, call, len(rows), [None] * len(rows))
        if not rows:
            asked.done.set_result([])
            return asked.done
        if seat.asks is None and seat.run is not None:
            seat.run.is_here()
        now = self._clock()
        with self._changed:
            if seat.asks is None:
                self._lingers = now
            seat.note_question(now)
            seat.work.alone = seat.work.alone if call.shares else MIX
            self._waiting.add(asked, rows, now)
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
            atexit.register(self._end)
        self._changed.notify_all()

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _end(self) -> None:
        """Let the thread end with what it is at. An interpreter that ends while one of its threads computes in a
        library aborts the process."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        call_is_next = True  # in turns: neither a long sampler nor many short calls hold the device
        idle: float | None = None
        while not self._ends:
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
                self._lingers = self._clock() + min(LINGER, LINGER_IN_PASSES * self._pass_took)
            elif group is not None:
                owners = {waiting.asked.seat.owner for waiting in group}
                self._pass(group)
            with self._changed:
                self.counts.calls += call is not None
                waiting_owners = {each.owner for each in self._calls} | {seat.owner for seat in self._seats}
                self._turns.charge(owners, self._clock() - began, waiting_owners)
            del group, call  # what was asked need not outlive its answer

    def _next(self, call_is_next: bool, idle: float | None) -> tuple[list[WaitingRow] | None, _Call | None]:
        """The rows of the next pass, or a call; neither where nothing came within `idle` seconds."""
        with self._changed:
            while not self._ends:
                patience, now = None, self._clock()
                calls_are_first = now - self._pass_ended < CALLS_FIRST * self._pass_took
                if calls_are_first and not self._calls and now < self._lingers:
                    patience = self._lingers - now
                elif not (self._calls and (call_is_next or calls_are_first)):
                    group, patience = self._waiting.ready(self._seats, now)
                    if group is not None:
                        return group, None
                if self._calls:
                    call = min(self._calls, key=lambda each: self._turns.account(each.owner))
                    self._calls.remove(call)
                    return None, call
                if not self._changed.wait(idle if patience is None else patience) and patience is None:
                    break
            return None, None

    def _pass(self, group: list[WaitingRow]) -> None:
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

    def _fail(self, group: list[WaitingRow], error: BaseException) -> None:
        for asked in {waiting.asked for waiting in group}:
            if not asked.done.done():
                asked.seat.waits = False
                asked.done.set_exception(error)
        with self._changed:  # other rows of those who failed need no answer
            self._waiting.drop_answered()

    def _answer(self, group: list[WaitingRow]) -> None:
        seat, call = group[0].asked.seat, group[0].asked.call
        rows = [waiting.row for waiting in group]
        rows, key = filled(rows, seat.size), key_of(seat, call, rows[0])
        is_compared = key in self._waiting.paces and self._may_compare(group[0].asked, rows[0])
        began, cost_began = self._clock(), self._cost_clock() if is_compared else 0.0
        answers = forward(call, rows, self.device, self._free)
        cost = self._cost_clock() - cost_began if is_compared else 0.0
        self._pass_ended = self._clock()
        self._pass_took = seconds = self._pass_ended - began
        parts: dict[Seat, list[int]] = {}
        for index, waiting in enumerate(group):
            parts.setdefault(waiting.asked.seat, []).append(index)
        if len(parts) > 1:
            answers = self._proof.checked(
                key=key,
                together=answers,
                parts=list(parts.values()),
                rows=[waiting.row for waiting in group],
                answers_of=lambda some: forward(call, filled(some, seat.size), self.device, self._free),
            )
        self._waiting.paces[key] = seconds
        self._comparisons.worked(seconds, key, seat.is_shared)
        self.counts.passes[seat.size] += 1
        number = self.counts.passes.total()
        self.counts.rows += len(group)
        self.counts.shared += len(parts) > 1
        self.counts.seconds += seconds
        wall = time.time() - (self._clock() - began)
        for part, places in parts.items():
            waited = sum(began - group[index].since for index in places)
            made = PassRecord(number, wall, seconds, seat.size, len(places), len(group))
            part.work.note(made, waited, call.name)
        for index, waiting in enumerate(group):
            asked = waiting.asked
            asked.answers[waiting.index] = {name: answer[index] for name, answer in answers.items()}
            asked.left -= 1
            if asked.left == 0 and not asked.done.done():
                asked.seat.note_answer(self._clock(), seconds)
                asked.done.set_result([answer for answer in asked.answers if answer is not None])
        if is_compared:
            self._compare(group[0].asked, rows, cost, len(group))

    def _may_compare(self, asked: Question, row: Row) -> bool:
        """Whether a pass of another size is to be made as well, to compare the cost. Not where code of others acts in a
        pass, or compiled code would have to be made."""
        seat, call = asked.seat, asked.call
        if self._ends or not seat.compares or not call.shares or call.is_changed or call.is_compiled:
            return False
        at_most = self._waiting.paces[key_of(seat, call, row)] * max(1.0, seat.other / seat.size)
        return self._comparisons.may(key_of(seat, call, row, seat.other), at_most, seat.is_shared)

    def _compare(self, asked: Question, rows: list[Row], cost: float, used: int) -> None:
        """Learn what a row costs in passes of the other size, against a pass that has just cost `cost` and whose `used`
        rows were asked for."""
        seat, call = asked.seat, asked.call
        seat.work.compared += 1
        some = filled(rows[: seat.other], seat.other)
        found = self._comparisons.cost(
            key_of(seat, call, some[0], seat.other),
            lambda: forward(call, some, self.device, lambda: False),
            seat.is_shared,
        )
        if found is None or not cost:
            return
        count = len(asked.answers)
        if seat.is_shared:
            own, shared = ceil(count / seat.other) * found / count, cost / used
        else:
            own, shared = ceil(count / seat.size) * cost / count, found / seat.other
        if own > 0 and isfinite(own):
            seat.work.ratios.append(shared / own)
