"""A sweep on another machine: each variant is a run of its own in that server's queue.

What variants have in common is computed once there as well, because the server caches it; to plan them as one, the
server would have to know of the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from threading import Event as Flag
from typing import Any

from ..cluster.remote import Remote
from ..events import Event, RunDone, RunStarted
from ..execution.listener import EitherFlag
from ..problem import Cancelled, InvalidWorkflow, NodeFailed
from ..results import Result
from .axes import Variant, VariantList
from .run import Tally
from .variant import VariantResult

__all__ = ["run_remote"]

WINDOW = 8
"""Variants that are in the server's queue at a time: it never waits for us, and other people's prompts get their
turn."""


def run_remote(
    remote: Remote,
    variants: VariantList,
    *,
    targets: Iterable[str] | None,
    give: Callable[[VariantResult], None],
    emit: Callable[[Event], None],
    cancel: Flag,
    extra_pnginfo: Mapping[str, Any] | None,
) -> Tally:
    """Run all variants and `give` each as it is done. Events name a node `ID@VARIANT`.

    Raises InvalidWorkflow where the workflow itself is wrong, Cancelled, and GraphFlowError if the server does not
    answer.
    """
    tally = Tally()
    wanted = None if targets is None else tuple(targets)
    began = time.perf_counter()
    stop = EitherFlag(cancel)

    def run(variant: Variant) -> Result:
        def forward(event: Event) -> None:
            if not isinstance(event, (RunStarted, RunDone)):
                emit(replace(event, node=f"{event.node}@{variant.index}"))  # type: ignore[attr-defined, call-arg]

        if stop.is_set():
            raise Cancelled()
        return remote.run(variant.workflow, targets=wanted, on_event=forward, cancel=stop, extra_pnginfo=extra_pnginfo)

    emit(RunStarted((), ()))
    status = "failed"
    refused: list[InvalidWorkflow] = []
    try:
        with ThreadPoolExecutor(WINDOW, thread_name_prefix="graphflow-sweep") as pool:
            try:
                work = {pool.submit(run, variant): variant for variant in variants}
                for future in as_completed(work):
                    if cancel.is_set():
                        raise Cancelled()
                    variant = work[future]
                    try:
                        result = future.result()
                    except (InvalidWorkflow, NodeFailed) as error:
                        refused += [error] if isinstance(error, InvalidWorkflow) else []
                        give(VariantResult(variant, {}, error.problems))
                        continue
                    tally.ran.update(result.timings.keys())
                    give(VariantResult(variant, result.nodes))
            except BaseException:
                stop.set()
                raise
        if len(refused) == len(variants) and not variants.are_to_blame_for(
            p for error in refused for p in error.problems
        ):
            raise refused[0]
        status = "done"
    except Cancelled:
        status = "cancelled"
        raise
    finally:
        tally.seconds = time.perf_counter() - began
        emit(RunDone(status, tally.seconds))
    return tally
