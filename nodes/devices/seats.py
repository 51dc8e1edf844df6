"""A sampler's place at a device, its questions, and the key that rows must have in common to share a pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from graphflow.spi import ExpectedRun

from ..model.row import Row
from .forward import Answers, ForwardCall
from .pass_counts import SeatWork

__all__ = ["Question", "Seat", "WaitingRow", "filled", "key_of"]

MOST_ALONE, MOST_SHARED = 1, 4
"""Comparisons of a sampler and a network: one that is alone loses their time."""


@dataclass(eq=False, slots=True)
class Seat:
    """A sampler's place at a device."""

    send: Callable[[Seat, ForwardCall, Sequence[Row]], Future[list[Answers]]]
    """To the pass loop of the device."""
    size: int
    owner: Hashable = None
    """Whose account it is on."""
    other: int = 0
    """The size of the passes that its own are compared with; 0: they are not."""
    run: ExpectedRun | None = None
    """Its run among those that share passes with it."""
    work: SeatWork = field(default_factory=SeatWork)
    left: int = 0
    """Questions that it has yet to ask, as far as it knows."""
    waits: bool = False
    asks: Hashable = None
    """The key of the network that it asked last; None: it has asked none yet."""
    is_late: bool = False
    """It was waited for in vain; nobody waits for it again until it asks."""
    pace: float = 0.0
    """Seconds of its last pass."""
    expected: float = 0.0
    """When its next question is due, by the time that it took for the last one."""
    pause: float = 0.0
    """Seconds between its last two passes."""
    answered: float | None = None
    """When it was answered last."""

    @property
    def is_shared(self) -> bool:
        """Its passes are larger than those that it would have alone, as far as it compares them."""
        return 0 < self.other < self.size

    @property
    def compares(self) -> bool:
        """Whether more comparisons are to be made."""
        return self.other not in (0, self.size) and self.work.compared < (MOST_SHARED if self.is_shared else MOST_ALONE)

    def note_question(self, now: float) -> None:
        self.is_late = False
        if self.answered is not None:
            self.pause = now - self.answered

    def note_answer(self, now: float, seconds: float) -> None:
        self.waits, self.pace, self.answered = False, seconds, now
        self.expected = now + 2 * self.pause

    def ask(self, call: ForwardCall, rows: Sequence[Row]) -> list[Answers]:
        """The answers of the network to the rows, in their order: tensors without a row axis, on the device.

        Raises what the network raises, and a Problem where the memory is too short for a pass of this size.
        """
        return self.ask_later(call, rows).result()

    def ask_later(self, call: ForwardCall, rows: Sequence[Row]) -> Future[list[Answers]]:
        """The same without waiting: one question at a time."""
        return self.send(self, call, rows)


@dataclass(eq=False, slots=True)
class Question:
    """One question of a seat to one network: its rows, which may be answered by several passes."""

    seat: Seat
    call: ForwardCall
    left: int
    answers: list[Answers | None]
    done: Future[list[Answers]] = field(default_factory=Future)


@dataclass(eq=False, slots=True)
class WaitingRow:
    row: Row
    asked: Question
    index: int
    since: float


def key_of(seat: Seat, call: ForwardCall, row: Row, size: int | None = None) -> Hashable:
    """The key that rows must have in common to share a pass. `size`: of one of another size."""
    return (
        call.key,
        seat.size if size is None else size,
        tuple((name, tensor.shape, tensor.dtype) for name, tensor in row.stacked.items()),
        tuple(row.ragged),
        row.common,
        None if call.shares else seat,
    )


def filled(rows: list[Row], size: int) -> list[Row]:
    """The rows of a pass, with copies of the last one up to its size."""
    return rows + [rows[-1]] * (size - len(rows))
