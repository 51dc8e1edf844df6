"""Several workflows at a time on one engine: each as if it were run alone, in the same order of results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event as Flag
from threading import Lock
from typing import Protocol

from .document.workflow import Source
from .events import Event
from .passes.admission import AdmittedRun
from .problem import Cancelled, GraphFlowError
from .results import Result

__all__ = ["AT_ONCE", "Begin", "Outcome", "RunOne", "run_many"]

AT_ONCE = 4
"""Workflows at a time, unless somebody states another number."""
Outcome = Result | GraphFlowError
"""What a run gives, or what is wrong with the workflow or failed in it."""


Begin = Callable[[Source, Sequence[Source]], AdmittedRun]
"""Decides with how many others a workflow shares passes; the others are those that are about to begin as well."""


class RunOne(Protocol):
    """Runs one workflow, which shares passes as was decided."""

    def __call__(
        self, workflow: Source, admitted: AdmittedRun, *, on_event: Callable[[Event], None], cancel: Flag
    ) -> Result: ...


def run_many(
    run: RunOne,
    workflows: Iterable[Source],
    cancel: Flag,
    *,
    at_once: int = AT_ONCE,
    begin: Begin | None = None,
    on_event: Callable[[int, Event], None] | None = None,
    on_outcome: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """The outcome of each workflow, in their order; a workflow is asked for when there is a place for it.

    With `begin`, no workflow begins before there is one for each place, so that it is known who runs beside it.

    Raises Cancelled when all at work have ended. What a callback raises ends the others, and is raised.
    """
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}, and at least one workflow has to run")
    supply, lock = _Supply(workflows, at_once if begin is not None else 1), Lock()
    found: dict[int, Outcome] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="graphflow-many") as pool:
        serve = partial(_serve, run, begin, supply, lock, found, cancel, on_event, on_outcome)
        tasks = [pool.submit(serve) for _ in range(at_once)]
        errors = [error for task in tasks if (error := task.exception()) is not None]
    real = [error for error in errors if not isinstance(error, Cancelled)]
    for error in real or errors:
        raise error
    if cancel.is_set():
        raise Cancelled
    return [found[index] for index in range(len(found))]


class _Supply:
    """The workflows, as places for them become free. The caller keeps threads apart."""

    def __init__(self, workflows: Iterable[Source], places: int) -> None:
        """A workflow is asked for when one of `places` is free; with one place, when it is to begin."""
        self._left, self._places = enumerate(workflows), places
        self._at_work = 0
        self._ready: deque[tuple[int, Source]] = deque()

    def next(self) -> tuple[int, Source, list[Source]] | None:
        """The next workflow with its number, and those that have a place beside it and have not begun; None: there is
        none left."""
        while len(self._ready) < max(1, self._places - self._at_work):
            found = next(self._left, None)
            if found is None:
                break
            self._ready.append(found)
        if not self._ready:
            return None
        self._at_work += 1
        index, workflow = self._ready.popleft()
        return index, workflow, [each for _, each in self._ready]

    def done(self) -> None:
        """One that was taken has ended."""
        self._at_work -= 1


def _serve(
    run: RunOne,
    begin: Begin | None,
    supply: _Supply,
    lock: Lock,
    found: dict[int, Outcome],
    cancel: Flag,
    on_event: Callable[[int, Event], None] | None,
    on_outcome: Callable[[int, Outcome], None] | None,
) -> None:
    """Run one workflow after the other, until there is none left."""
    try:
        while not cancel.is_set():
            with lock:
                taken = supply.next()
                if taken is None:
                    return
                index, workflow, beside = taken
                admitted = begin(workflow, beside) if begin is not None else AdmittedRun()
            listen = partial(on_event, index) if on_event is not None else _ignore
            try:
                with admitted:
                    outcome: Outcome = run(workflow, admitted, on_event=listen, cancel=cancel)
            except Cancelled:
                raise
            except GraphFlowError as error:
                outcome = error
            found[index] = outcome
            with lock:
                supply.done()
                if on_outcome is not None:
                    on_outcome(index, outcome)
    except BaseException:
        cancel.set()
        raise


def _ignore(_: Event) -> None: ...
