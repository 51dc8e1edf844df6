"""Several workflows at a time on one engine: each as if it were run alone, in the same order of results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event as Flag
from threading import Lock
from typing import Protocol

from .document.workflow import Source
from .events import Event
from .passes.admission import AdmittedRun
from .passes.sharing import SharedRuns
from .problem import Cancelled, GraphFlowError
from .results import Result

__all__ = ["AT_ONCE", "Outcome", "RunOne", "run_many"]

AT_ONCE = 4
"""Workflows at a time, unless somebody states another number."""
Outcome = Result | GraphFlowError
"""What a run gives, or what is wrong with the workflow or failed in it."""


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
    sharing: SharedRuns | None = None,
    on_event: Callable[[int, Event], None] | None = None,
    on_outcome: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """The outcome of each workflow, in their order; a workflow is asked for when there is a place for it.

    With `sharing`, workflows are asked for as many ahead as there are places, so that it is known who runs beside one.

    Raises Cancelled when all at work have ended. What a callback raises ends the others, and is raised.
    """
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}, and at least one workflow has to run")
    supply, lock = _Supply(workflows, at_once, sharing), Lock()
    found: dict[int, Outcome] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="graphflow-many") as pool:
        serve = partial(_serve, run, supply, lock, found, cancel, on_event, on_outcome)
        tasks = [pool.submit(serve) for _ in range(at_once)]
        errors = [error for task in tasks if (error := task.exception()) is not None]
    supply.close()
    real = [error for error in errors if not isinstance(error, Cancelled)]
    for error in real or errors:
        raise error
    if cancel.is_set():
        raise Cancelled
    return [found[index] for index in range(len(found))]


class _Supply:
    """The workflows, as places for them become free. The caller keeps threads apart."""

    def __init__(self, workflows: Iterable[Source], places: int, sharing: SharedRuns | None) -> None:
        self._left, self._places, self._sharing = enumerate(workflows), places, sharing
        self._at_work = 0
        self._ready: deque[tuple[int, Source, str]] = deque()
        self._begun: deque[tuple[int, Source, AdmittedRun]] = deque()
        """Those that have a place, and whose thread has yet to come for them."""

    def next(self) -> tuple[int, Source, AdmittedRun] | None:
        """The next workflow with its number, and what was decided for it; None: there is none left.

        Where passes are shared, all for which there is a place begin as one: so each knows of the others from its first
        moment.
        """
        while len(self._begun) < (1 if self._sharing is None else self._places - self._at_work):
            begun = self._begin()
            if begun is None:
                break
            self._begun.append(begun)
        if not self._begun:
            return None
        self._at_work += 1
        return self._begun.popleft()

    def _begin(self) -> tuple[int, Source, AdmittedRun] | None:
        sharing = self._sharing
        while len(self._ready) + len(self._begun) < (1 if sharing is None else self._places + 1):
            found = next(self._left, None)
            if found is None:
                break
            self._ready.append((*found, "" if sharing is None else sharing.kind(found[1])))
        if not self._ready:
            return None
        index, workflow, kind = self._ready.popleft()
        if sharing is None:
            return index, workflow, AdmittedRun()
        alike = [each == kind for _, _, each in self._ready]
        free = self._places - self._at_work - len(self._begun) - 1
        return index, workflow, sharing.begin(workflow, kind, beside=sum(alike[:free]), behind=sum(alike[free:]))

    def done(self) -> None:
        """One that was taken has ended."""
        self._at_work -= 1

    def close(self) -> None:
        """Nobody comes for those that were to begin."""
        for _, _, admitted in self._begun:
            admitted.end()
        self._begun.clear()


def _serve(
    run: RunOne,
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
                index, workflow, admitted = taken
            listen = partial(on_event, index) if on_event is not None else _ignore
            try:
                outcome: Outcome = run(workflow, admitted, on_event=listen, cancel=cancel)
            except Cancelled:
                raise
            except GraphFlowError as error:
                outcome = error
            finally:
                with lock:
                    admitted.end()
                    supply.done()
            found[index] = outcome
            with lock:
                if on_outcome is not None:
                    on_outcome(index, outcome)
    except BaseException:
        cancel.set()
        raise


def _ignore(_: Event) -> None: ...
