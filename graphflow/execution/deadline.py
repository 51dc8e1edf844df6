"""A run that may take only so long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Timer

from ..problem import Cancelled, InvalidWorkflow, Problem, TimedOut
from .listener import EitherFlag

__all__ = ["deadline"]


@contextmanager
def deadline(cancel: Flag | None, seconds: float | None) -> Iterator[Flag | None]:
    """The flag that cancels the run: after so many seconds, or when `cancel` is set. Raises TimedOut for the first."""
    if seconds is None:
        yield cancel
        return
    if not seconds > 0:
        problem = Problem("bad_timeout", f"found timeout={seconds!r}, expected more than 0 seconds")
        raise InvalidWorkflow([problem])
    expired, either = Flag(), EitherFlag(cancel)

    def expire() -> None:
        expired.set()
        either.set()

    timer = Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield either
    except Cancelled as error:
        if expired.is_set() and not (cancel is not None and cancel.is_set()):
            raise TimedOut(seconds) from error
        raise
    finally:
        timer.cancel()
