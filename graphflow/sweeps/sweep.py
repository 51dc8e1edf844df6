"""`gf.sweep(workflow, {"KSampler.seed": range(4), "KSampler.cfg": [3, 5, 7]}).run()`"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any

from ..cluster.remote import Remote
from ..engine import Engine
from ..events import Event
from ..execution.deadline import deadline
from ..execution.listener import Listener
from ..execution.reading import watched
from ..execution.stream import awaited
from ..passes.admission import AdmittedRun
from ..passes.likeness import FREE, likeness
from ..problem import InvalidWorkflow, Problem
from ..registry import Registry
from ..request import Targets, names_of
from ..run_once import CacheOption, engine_for
from ..sources import Source, Workflow, as_workflow
from .axes import VariantList, axes
from .merge import merge
from .plan import Merged
from .remote import run_remote
from .results import Results
from .run import Tally, run_merged
from .variant import VariantResult

__all__ = ["Sweep", "sweep"]

TOGETHER = 16
"""Samplers of a sweep that may share forward passes, where the settings state none."""


def sweep(graph: Source, vary: Mapping[Any, Iterable[Any]]) -> Sweep:
    """All variants of a graph or workflow (or of the file of one) that these axes span.

    `{place: values}` is an axis, and all axes are crossed; `{(place, place): [(1, 2), (3, 4)]}` moves several inputs
    together. A place is an attribute of a handle (`latent.seed`), a Place, or `NODE.INPUT` with the node by id, title
    or type; a value is anything that can stand in the workflow, an output of a node of the graph, too.

    Raises InvalidWorkflow where a place is not to be found or an axis has no values.
    """
    workflow, given_values = as_workflow(graph), dict[str, Any]()
    found = axes(workflow, vary, given_values)
    if given_values:
        workflow = Workflow(workflow, workflow.extra, {**workflow.given, **given_values})
    own = getattr(graph, "own_types", None)
    return Sweep(VariantList(workflow, found), own if isinstance(own, Registry) else Registry())


@dataclass(frozen=True, slots=True, repr=False)
class Sweep:
    """Variants of one workflow, which run as one."""

    variants: VariantList
    own_types: Registry = field(default_factory=Registry, compare=False, repr=False)
    """The node types of the script itself."""

    def __len__(self) -> int:
        return len(self.variants)

    def __repr__(self) -> str:
        axes = ", ".join(f"{self.variants.names[place]}" for place in self.variants.places)
        return f"<Sweep of {len(self)} variants over {axes}>"

    def plan(self, engine: Engine, targets: Targets | None = None) -> Merged:
        """The plan: what would run, and which variants cannot. Runs nothing.

        Raises InvalidWorkflow where the workflow itself is wrong.
        """
        settings = replace(engine.settings, values=self.variants.workflow.given)
        return merge(self.variants, engine.with_nodes(self.own_types).registry, settings, names_of(targets))

    def run(
        self,
        engine: Engine | Remote | None = None,
        *,
        targets: Targets | None = None,
        on_result: Callable[[VariantResult], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        exact: bool = False,
        retries: int = 0,
        cache: CacheOption = "shared",
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Results:
        """Run all variants as one plan; each different node runs once. A variant that fails has problems in its result
        and stops no other one.

        `engine` may be a server (`gf.connect`): the variants are then runs in its queue, and share what it caches.

        `on_result` is called with each variant as it is done, in the calling thread. Events name nodes of the plan, see
        `Merged`. `exact`: no two samplers share a forward pass, so that each image is the same to the bit as that of
        the variant run alone. What is done is cached, so a sweep that was stopped goes on where it was.

        `retries`: how often a variant that failed while it ran is tried again. `timeout`: seconds for the whole sweep.
        `cache`: where there is no `engine`, that of the one which is made, as in `gf.run`.

        Raises InvalidWorkflow where the workflow itself is wrong, Cancelled.
        """
        found: dict[int, VariantResult] = {}
        left = retries
        """Tries that failed variants still have."""

        def give(result: VariantResult) -> None:
            found[result.index] = result
            if on_result is not None and (left == 0 or not result.failed):
                on_result(result)

        names = names_of(targets)
        runner = nullcontext(engine) if engine is not None else engine_for(cache)
        with runner as using, deadline(cancel, timeout) as until:
            if isinstance(using, Engine):
                using = using.with_nodes(self.own_types)
            listener = Listener(on_event, until)
            admitted = self._admitted(using, exact=exact, is_new=refresh)

            def work(only: set[int] | None) -> Tally:
                return self._run(
                    using,
                    names,
                    give,
                    admitted.heard(listener),
                    admitted=admitted,
                    cancel=listener.cancel,
                    only=only,
                    refresh=refresh,
                    extra_pnginfo=extra_pnginfo,
                )

            try:
                with admitted:
                    tally = work(None)
                    while left and (failed := {index for index, item in found.items() if item.failed}):
                        left -= 1
                        tally.add(work(failed))
            finally:
                listener.raise_error()
        items = [found[index] for index in sorted(found)]
        return Results(self.variants, items, tally.ran, tally.seconds, tally.timings)

    async def run_async(self, engine: Engine | Remote | None = None, **options: Any) -> Results:
        """As `run`, beside whatever else the event loop does. Cancelling the task cancels the sweep."""
        return await awaited(self.run, engine, options)

    def _admitted(self, engine: Engine | Remote, *, exact: bool, is_new: bool) -> AdmittedRun:
        """With how many others a sampler shares passes, decided for all variants as one."""
        if exact or not isinstance(engine, Engine) or engine.cluster is not None:  # there each sampler runs alone
            return AdmittedRun()
        stated, variants = engine.settings.together, self.variants
        document = variants.workflow.to_json()
        axes = [[[(place.node, place.input) for place in axis.places], axis.rows] for axis in variants.axes]
        kind = engine.likeness(
            variants.workflow, [axis for axis in axes if any(name not in FREE for _, name in axis[0])]
        )
        return engine.passes.admit(
            kind,
            work=likeness(document, document, axes, kind),
            most=stated if stated > 1 else min(TOGETHER, len(variants)),
            waiting=len(variants) - 1,
            is_new=is_new,
            calculate=partial(engine.pass_costs, variants.workflow),
        )

    def _run(
        self,
        engine: Engine | Remote,
        targets: tuple[str, ...] | None,
        give: Callable[[VariantResult], None],
        emit: Callable[[Event], None],
        *,
        admitted: AdmittedRun,
        cancel: Flag,
        only: set[int] | None,
        refresh: bool,
        extra_pnginfo: Mapping[str, Any] | None,
    ) -> Tally:
        """Run all variants, or `only` those of these numbers."""
        if not isinstance(engine, Engine):
            if refresh:
                raise InvalidWorkflow(
                    [
                        Problem(
                            "not_offered",
                            "a server does not compute again what it has cached",
                            hint="leave refresh=True out",
                        )
                    ]
                )
            if only is not None:
                raise InvalidWorkflow(
                    [Problem("not_offered", "a server's runs are not tried again", hint="run it again")]
                )
            return run_remote(
                engine, self.variants, targets=targets, give=give, emit=emit, cancel=cancel, extra_pnginfo=extra_pnginfo
            )
        own = replace(engine.settings, values=self.variants.workflow.given)
        settings = replace(
            watched(own, cancel, emit),
            together=admitted.passes,
            compare=admitted.compare,
            expected=admitted.expected,
        )
        merged = merge(self.variants, engine.registry, settings, targets)
        if only is not None:
            merged.wanted = {index: outputs for index, outputs in merged.wanted.items() if index in only}
        for index, problems in merged.invalid.items():
            if only is None or index in only:
                give(VariantResult(self.variants[index], {}, problems))
        return run_merged(
            engine,
            settings,
            self.variants,
            merged,
            give=give,
            emit=emit,
            cancel=cancel,
            refresh=refresh,
            extra_pnginfo=extra_pnginfo,
        )

    def stream(self, engine: Engine | Remote | None = None, **options: Any) -> Iterator[VariantResult]:
        """`run`, giving each result as it comes. What has not run when the iterator is closed does not run."""
        results: SimpleQueue[VariantResult | BaseException | None] = SimpleQueue()
        cancel = options.setdefault("cancel", Flag())

        def work() -> None:
            try:
                self.run(engine, on_result=results.put, **options)
                results.put(None)
            except BaseException as error:
                results.put(error)

        thread = Thread(target=work, name="graphflow-sweep")
        thread.start()
        try:
            while (found := results.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            cancel.set()
            thread.join()
