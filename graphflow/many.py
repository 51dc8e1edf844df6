"""Several workflows at a time on one engine: each as if it were run alone, in the same order of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event as Flag
from threading import Lock
from typing import Protocol

from .document.workflow import Source
from .events import Event
from .problem import Cancelled, GraphFlowError
from .results import Result

__all__ = ["AT_ONCE", "Outcome", "RunOne", "run_many"]

AT_ONCE = 4
"""Workflows at a time, unless somebody states another number."""
Outcome = Result | GraphFlowError
"""What a run gives, or what is wrong with the workflow or failed in it."""


class RunOne(Protocol):
    """Runs one workflow."""

    def __call__(self, workflow: Source, *, on_event: Callable[[Event], None], cancel: Flag) -> Result: ...


def run_many(
    run: RunOne,
    workflows: Iterable[Source],
    cancel: Flag,
    *,
    at_once: int = AT_ONCE,
    on_event: Callable[[int, Event], None] | None = None,
    on_outcome: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """The outcome of each workflow, in their order; a workflow is asked for when there is a place for it.

    Raises Cancelled when all at work have ended. What a callback raises ends the others, and is raised.
    """
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}, and at least one workflow has to run")
    supply, lock = enumerate(workflows), Lock()
    found: dict[int, Outcome] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="graphflow-many") as pool:
        serve = partial(_serve, run, supply, lock, found, cancel, on_event, on_outcome)
        tasks = [pool.submit(serve) for _ in range(at_once)]
        errors = [error for task in tasks if (error := task.exception()) is not None]
    real = [error for error in errors if not isinstance(error, Cancelled)]
    for error in real or errors:
        raise error
    if cancel.is_set():
        raise Cancelled
    return [found[index] for index in range(len(found))]


def _serve(
    run: RunOne,
    supply: Iterator[tuple[int, Source]],
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
                index, workflow = next(supply, (-1, None))
            if workflow is None:
                return
            listen = partial(on_event, index) if on_event is not None else _ignore
            try:
                outcome: Outcome = run(workflow, on_event=listen, cancel=cancel)
            except Cancelled:
                raise
            except GraphFlowError as error:
                outcome = error
            found[index] = outcome
            if on_outcome is not None:
                with lock:
                    on_outcome(index, outcome)
    except BaseException:
        cancel.set()
        raise


def _ignore(_: Event) -> None: ...
