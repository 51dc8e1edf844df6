"""One forward pass for all who wait for one: samplers of one model meet here at each of their steps.

A sampler takes a seat for as long as it has questions. Once everybody who is seated waits for an answer, one pass answers
them all: each may be at another step, with another prompt. Nobody waits for who computes nothing here, and who is alone is
answered by the very call that it would make without a batcher.

How many rows go into a pass is bounded by memory and by what pays: where a pass of half the rows was measured to be
faster for each row (large pictures fill a device by themselves), that is taken, down to one item at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import torch
from torch import Tensor

__all__ = ["Ask", "Batcher", "Call"]

Call = Callable[..., Tensor]
"""Tensors with one row an item -> a tensor with one row an item."""
Ask = Callable[..., Tensor]
"""The same, but the answer may come out of a pass that was shared with others."""

GAIN = 1.05
"""A smaller pass is taken only if it is faster by this much for each row, so that noise of the clock decides nothing."""
TRIES = 3
AGAIN = 32


@dataclass(eq=False)
class _Question:
    call: Call
    tensors: tuple[Tensor, ...]
    answer: Future[Tensor] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        return len(self.tensors[0])


class Batcher:
    """Shares the calls of one model; `most` is the number of rows that fit into the memory of a pass.

    `clock` measures passes. On a CPU that should be the time of the thread: others on the machine interrupt a long pass
    more often than a short one, which says nothing about either. `thread`, an executor of one, makes all passes.
    """

    def __init__(self, thread: Executor, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._thread, self._most, self._clock = thread, most, clock
        self._seated = 0
        self._waiting: list[_Question] = []
        self._lock = Lock()
        self._paces: dict[tuple[torch.Size, ...], _Pace] = {}

    @contextmanager
    def seat(self, call: Call) -> Iterator[Ask]:
        """Take part until the end of the block, with questions for the `call` of the model; gives the function to ask."""
        with self._lock:
            self._seated += 1
        try:
            yield partial(self._ask, call)
        finally:
            with self._lock:
                self._seated -= 1
                self._go_if_all_wait()

    def _ask(self, call: Call, *tensors: Tensor) -> Tensor:
        question = _Question(call, tensors)
        with self._lock:
            alone = self._seated == 1
            if not alone:
                self._waiting.append(question)
                self._go_if_all_wait()
        return self._thread.submit(call, *tensors).result() if alone else question.answer.result()

    def _go_if_all_wait(self) -> None:
        if self._waiting and len(self._waiting) == self._seated:
            batch, self._waiting = self._waiting, []
            self._thread.submit(self._answer, batch)

    def _answer(self, batch: list[_Question]) -> None:
        try:
            self._answer_alike(batch)
        except BaseException as error:  # nobody may wait for ever
            for question in batch:
                if not question.answer.done():
                    question.answer.set_exception(error)

    def _answer_alike(self, batch: list[_Question]) -> None:
        groups: dict[tuple[torch.Size, ...], list[_Question]] = {}
        for question in batch:
            groups.setdefault(tuple(tensor.shape[1:] for tensor in question.tensors), []).append(question)
        for shapes, alike in groups.items():
            pace = self._paces.setdefault(shapes, _Pace())
            for part in _parts(alike, min(self._most, pace.rows(sum(question.rows for question in alike)))):
                self._answer_part(part, pace)

    def _answer_part(self, part: list[_Question], pace: _Pace) -> None:
        try:
            began = self._clock()
            answers = part[0].call(*(torch.cat(same) for same in zip(*(one.tensors for one in part), strict=True)))
            pace.note(len(answers), self._clock() - began)
        except BaseException as error:
            if len(part) == 1:
                part[0].answer.set_exception(error)
                return
            # Memory that is short, or an item that is wrong: smaller passes, so that only who is wrong fails.
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                self._most = max(1, len(part) * part[0].rows // 2)
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                self._answer_part(half, pace)
            return
        for question, answer in zip(part, answers.split([question.rows for question in part]), strict=True):
            question.answer.set_result(answer)


def _parts(questions: list[_Question], most: int) -> Iterator[list[_Question]]:
    """Neighbours together, up to `most` rows; a question is never divided."""
    part: list[_Question] = []
    rows = 0
    for question in questions:
        if part and rows + question.rows > most:
            yield part
            part, rows = [], 0
        part.append(question)
        rows += question.rows
    yield part


class _Pace:
    """Which number of rows has the least seconds for each, found by halving for as long as that helps.

    The least that was seen counts, and the largest pass is tried again now and then: a machine that was busy for a
    moment is not held against it for ever.
    """

    def __init__(self) -> None:
        self._best: dict[int, float] = {}
        self._tries: dict[int, int] = {}
        self._asked = 0

    def rows(self, asked: int) -> int:
        size = _bucket(asked)
        self._asked += 1
        if self._asked % AGAIN == 0:
            return size
        while size > 1:
            half = size // 2
            if self._tries.get(size, 0) < TRIES:
                return size
            if self._tries.get(half, 0) < TRIES:
                return half
            if self._best[half] * GAIN > self._best[size]:
                return size
            size = half
        return size

    def note(self, rows: int, seconds: float) -> None:
        size = _bucket(rows)
        self._tries[size] = self._tries.get(size, 0) + 1
        self._best[size] = min(self._best.get(size, seconds / rows), seconds / rows)


def _bucket(rows: int) -> int:
    """The power of two at or above."""
    return 1 << (rows - 1).bit_length()
