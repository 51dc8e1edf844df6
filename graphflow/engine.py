"""The engine: node types, a cache and workers. `with Engine() as engine: engine.run(workflow)`."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Event as Flag
from typing import Any

from .arrivals import ExpectedRun
from .cache import Cache
from .check.graphs import TOO_LARGE, RunCost, costs_of
from .check.validate import Bound, runnable, validate, with_malformed
from .document.workflow import Source, Workflow
from .events import Event, RunDone
from .execution import Admission, OtherEngine, Run, RunContext
from .execution.deadline import deadline
from .execution.listener import EitherFlag, Listener
from .execution.reading import watched
from .execution.stream import Stream, awaited
from .formats import read
from .formats.files import read_file
from .formats.object_info import NodeInfos, RegistryInfos
from .many import AT_ONCE, Outcome, run_many
from .nodetype.node import NodeType
from .passes.admission import AdmittedRun, PassAdmission
from .passes.likeness import likeness
from .passes.sharing import SharedRuns
from .passes.store import PassStore
from .plan.bulk import in_bulk, kept
from .plan.explain import Explanation, explain
from .plan.fingerprint import Fingerprint, why_not
from .plan.settle import planned
from .problem import Cancelled, GraphFlowError, InvalidWorkflow, NodeFailed, Problem, UnusedInput
from .registry import Registry
from .request import Target, Targets, name_of, names_of
from .results import ByNode, NodeResult, Result, SavedImage, node_result
from .settings import Settings
from .sources import as_workflow

PASSES = "passes.sqlite"
"""In the folder of the cache."""

__all__ = ["Checked", "Engine", "NodeResult", "Result", "SavedImage", "node_result"]


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of checking a workflow."""

    order: Mapping[str, Bound]
    """The nodes that can run, in topological order."""
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    targets: tuple[str, ...]
    """The nodes that are asked for."""
    outputs: tuple[str, ...]
    """Those of them that can run, whatever is wrong elsewhere."""


class Engine:
    """Runs workflows; keeps what they compute. Creating one starts no thread and imports no model library."""

    def __init__(
        self,
        registry: Registry | None = None,
        settings: Settings | None = None,
        cache: Cache | None = None,
        workers: int | None = None,
        cluster: OtherEngine | None = None,
    ) -> None:
        """`cluster`: a server (`gf.connect`) whose workers compute the nodes that need a device, several at a time; all
        others run here. Both need one level of the cache in common, and the same models; settings state the kind of
        device that the workers have. Raises GraphFlowError where the cache could not be shared."""
        if cluster is not None and (cache is None or (cache.disk is None and cache.shared is None)):
            hint = "Engine(cache=Cache(remote=URL), cluster=...), with the URL that the workers have"
            message = (
                "results come from a cluster through a cache that both have, and this engine keeps its own in memory"
            )
            raise GraphFlowError([Problem("no_shared_cache", message, input="cache", hint=hint)])
        self.cluster = cluster
        self.registry = Registry.installed() if registry is None else registry
        self.settings = settings or Settings()
        self.cache = Cache() if cache is None else cache
        self._owns_cache = cache is None
        self.workers = workers or max(2, os.cpu_count() or 2)
        self.admission = Admission()
        folder = self.cache.disk.path if self.cache.disk is not None else None
        self.passes = PassAdmission(PassStore(folder / PASSES if folder is not None else None))

    def __enter__(self) -> Engine:
        self.cache.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Engine:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Write what the cache still has to write, and let go of its files. The engine can be used again."""
        self.cache.close()
        self.passes.store.close()
        if self._owns_cache:
            self.cache.memory.clear()

    def with_nodes(self, types: Mapping[str, NodeType]) -> Engine:
        """This engine, its cache and its devices, with more node types: those of a script."""
        if not types:
            return self
        more = copy(self)
        more.registry = Registry(dict(self.registry))
        more.registry.update(types)
        more.__dict__.pop("infos", None)
        return more

    def on_behalf_of(
        self, owner: str, together: int | None = None, compare: int = 1, expected: ExpectedRun | None = None
    ) -> Engine:
        """This engine, its cache and its devices, for runs of one of several owners: each gets the same share of a
        device's time while they compete for it. `together`, `compare` and `expected` as in Settings; `together` is by
        default that of this engine."""
        other = copy(self)
        shared = self.settings.together if together is None else together
        other.settings = replace(self.settings, owner=owner, together=shared, compare=compare, expected=expected)
        other.__dict__.pop("infos", None)
        return other

    def forget(self, run_id: str) -> None:
        """Drop the notes of a run about the files it wrote; the files stay."""
        shutil.rmtree(self.settings.claims(run_id), ignore_errors=True)

    @cached_property
    def infos(self) -> NodeInfos:
        """The descriptions of its node types: what reading the editor's own format needs."""
        return RegistryInfos(self.registry, self.settings)

    def load(self, path: str | os.PathLike[str]) -> Workflow:
        """Read a workflow file of any kind: API format, the editor's own format, an image that carries either.

        Raises InvalidWorkflow; where nodes are malformed, with what is wrong with the others as well.
        """
        workflow, malformed = read(read_file(path).data, self.infos)
        if malformed:
            raise InvalidWorkflow(with_malformed(malformed, workflow, self.validate(workflow)))
        return workflow

    def validate(self, workflow: Source) -> list[Problem]:
        """All problems of the workflow; none means that it can run. `check(...).warnings` are odd and stop nothing."""
        workflow = self._workflow(workflow)
        return validate(workflow, self.registry, self._settings_for(workflow))[1]

    def check(self, workflow: Source, targets: Targets | None = None) -> Checked:
        """Which of the workflow's output nodes, or of the `targets`, can run; targets as in `run`.

        A problem stops only the outputs that stand on it. Raises InvalidWorkflow where a target is not to be found.
        """
        workflow, warnings = self._workflow(workflow), list[Problem]()
        names = names_of(targets)
        if names is None:
            wanted = [key for key, node in workflow.items() if _is_output(self.registry.get(node.class_type))]
        else:
            wanted = [workflow.find(name) for name in names]
        order, problems = validate(workflow, self.registry, self._settings_for(workflow), warnings, wanted)
        if names is not None:
            problems = [problem for problem in problems if problem.code != "no_output"]
        good = runnable(order, problems) if problems else order
        outputs = tuple(key for key in wanted if key in good)
        return Checked(good, tuple(problems), tuple(warnings), tuple(wanted), outputs)

    def costs(self, workflow: Source) -> list[RunCost]:
        """What a run will load, need and compute, from the headers of its files, as if nothing came from the cache; one
        entry for each package that estimates its nodes. Runs nothing. Nodes with a problem are left out, unless it is
        their size: that is what a cost is asked for."""
        workflow = self._workflow(workflow)
        settings = self._settings_for(workflow)
        order, problems = validate(workflow, self.registry, settings)
        return costs_of(runnable(order, [problem for problem in problems if problem.code != TOO_LARGE]), settings)

    def pass_costs(self, workflow: Workflow) -> dict[int, float] | None:
        """The calculated cost of a row in passes that so many runs share, as a part of that in a run's own; of several
        samplers, the one that gains least. Empty where it cannot be calculated; None where no node asks a model."""
        try:
            costs = self.costs(workflow)
        except GraphFlowError:  # it is reported when it runs
            return {}
        found = [cost.pass_costs for cost in costs if cost.pass_costs is not None]
        if not found:
            return None
        numbers = {number for each in found for number in each}
        return {number: max(each[number] for each in found if number in each) for number in sorted(numbers)}

    def explain(self, workflow: Source) -> list[Explanation]:
        """For each node whether it is cached, and why; runs nothing. Raises InvalidWorkflow."""
        workflow = self._workflow(workflow)
        settings = self._settings_for(workflow)
        order, problems = validate(workflow, self.registry, settings)
        if problems:
            raise InvalidWorkflow(problems)
        wanted = [key for key, item in order.items() if item.type.is_output]
        settings, prints = _planned(order, settings)
        with self.cache:
            self.cache.fetch([prints[key].recipe for key in order])
            return explain(workflow, order, prints, self.cache, settings, wanted, self.registry)

    def peek(self, workflow: Source, node: Target) -> NodeResult | None:
        """The results that the cache holds of a node, by its id, title or type; None where it would have to run.

        Runs nothing. Raises InvalidWorkflow where the node, or what it stands on, has a problem.
        """
        workflow = self._workflow(workflow)
        settings = self._settings_for(workflow)
        key = workflow.find(name_of(node))
        order, problems = validate(workflow, self.registry, settings, targets=[key])
        good = runnable(order, problems)
        if key not in good:
            raise InvalidWorkflow(problems)
        return self._kept(key, good[key], _planned(good, settings)[1][key].recipe)

    def _kept(self, key: str, node: Bound, recipe: bytes) -> NodeResult | None:
        """The results of a node in the cache."""
        with self.cache:
            entry = self.cache.get(recipe)
            if entry is None or why_not(entry, node.type, self.registry, self.settings) is not None:
                return None
            return node_result(node, entry) if entry.outputs is not None or not node.type.outputs else None

    @kept()
    def run(
        self,
        workflow: Source,
        *,
        targets: Targets | None = None,
        inputs: Mapping[Any, Any] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """Run the workflow's output nodes, or the `targets`: one or several, each an id, a title, a type, or the node
        of a graph itself. With targets, problems that they do not stand on stop nothing.

        A run with a `run_id` that is made again under it, after a crash, writes no file twice; call `forget(run_id)`
        when its result is safe. Saved images carry `extra_pnginfo` besides the workflow.
        `on_event` is called in the calling thread and in the nodes' threads. If it raises, the run stops, and raises
        the same at its end.

        `inputs` are values for places of the workflow: `{"KSampler.seed": 7, load.image: image}`. `timeout`: seconds
        after which the run is cancelled and raises TimedOut. `refresh` computes everything and replaces what is cached.

        Inputs that no node uses are reported with `warnings.warn` (UnusedInput): ComfyUI's files have some.
        Raises InvalidWorkflow before anything runs, NodeFailed after all that could run has run, Cancelled.
        """
        workflow = self._workflow(workflow)
        if inputs:
            workflow = workflow.set_all(inputs)
        with deadline(cancel, timeout) as until:
            return self._run(
                workflow,
                targets=targets,
                on_event=on_event,
                cancel=until,
                refresh=refresh,
                run_id=run_id,
                extra_pnginfo=extra_pnginfo,
            )

    def _run(
        self,
        workflow: Workflow,
        *,
        targets: Targets | None,
        on_event: Callable[[Event], None] | None,
        cancel: Flag | None,
        refresh: bool,
        run_id: str | None,
        extra_pnginfo: Mapping[str, Any] | None,
    ) -> Result:
        emit = Listener(on_event, cancel)
        cancel = emit.cancel
        began = time.perf_counter()
        with in_bulk():
            checked = self.check(workflow, targets)
            wanted = checked.targets
            if checked.problems and (targets is None or not set(wanted) <= set(checked.outputs)):
                raise InvalidWorkflow(checked.problems)
            for problem in checked.warnings:
                warnings.warn(str(problem), UnusedInput, stacklevel=4)
            order = checked.order
            settings = watched(self._settings_for(workflow), cancel, emit)
            try:
                settings, prints = _planned(order, settings)
            except Cancelled:
                emit(RunDone("cancelled", time.perf_counter() - began))
                emit.raise_error()
                raise
        context = RunContext(
            cache=self.cache,
            settings=settings,
            types=self.registry,
            admission=self.admission,
            workers=self.workers,
            emit=emit,
            cancel=cancel,
            refresh=refresh,
            claims=self.settings.claims(run_id) if run_id else None,
            extra_pnginfo=extra_pnginfo,
            other=self.cluster,
        )
        work = Run(workflow, order, prints, context)
        status = "failed"
        try:
            with self.cache.running():
                if not refresh:
                    self.cache.fetch([prints[key].recipe for key in order])
                work.execute(wanted)
            status = "failed" if work.problems else "done"
        except Cancelled:
            status = "cancelled"
            raise
        finally:
            emit(RunDone(status, time.perf_counter() - began, context.imports.seconds))
            emit.raise_error()
        if work.problems:
            raise NodeFailed(work.problems) from work.cause
        nodes = {key: node_result(order[key], entry) for key, entry in work.results.items()}

        def peek(key: str) -> NodeResult | None:
            return self._kept(key, order[key], prints[key].recipe) if key in order else None

        seconds = time.perf_counter() - began
        return Result(
            workflow,
            nodes,
            ByNode(workflow, work.timings),
            tuple(work.cached),
            seconds,
            models=tuple(emit.models),
            memory=ByNode(workflow, emit.memory),
            peek=peek,
            loading=ByNode(workflow, work.loading),
            importing=context.imports.seconds,
        )

    def stream(
        self,
        workflow: Source,
        *,
        targets: Targets | None = None,
        inputs: Mapping[Any, Any] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Stream[Result]:
        """The events of a run as they happen: `async for event in engine.stream(workflow)`; after the loop, the
        `result` of the stream.

        The run goes on in a thread. Leaving the loop cancels it; at its end is raised what `run` raises.
        """
        options = {
            "targets": targets,
            "inputs": inputs,
            "on_event": on_event,
            "cancel": cancel,
            "timeout": timeout,
            "refresh": refresh,
            "run_id": run_id,
            "extra_pnginfo": extra_pnginfo,
        }
        return Stream(self.run, workflow, options)

    async def run_async(
        self,
        workflow: Source,
        *,
        targets: Targets | None = None,
        inputs: Mapping[Any, Any] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """As `run`, beside whatever else the event loop does. Cancelling the task cancels the run."""
        options = {
            "targets": targets,
            "inputs": inputs,
            "on_event": on_event,
            "cancel": cancel,
            "timeout": timeout,
            "refresh": refresh,
            "run_id": run_id,
            "extra_pnginfo": extra_pnginfo,
        }
        return await awaited(self.run, workflow, options)

    def run_many(
        self,
        workflows: Iterable[Source],
        *,
        at_once: int = AT_ONCE,
        share: int | None = None,
        targets: Targets | None = None,
        on_event: Callable[[int, Event], None] | None = None,
        on_outcome: Callable[[int, Outcome], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
    ) -> list[Outcome]:
        """Run workflows, up to `at_once` at a time; for each its result, or the GraphFlowError that stopped it, in
        their order. `workflows` may be a generator: one is asked for when there is a place for it,
        or where they share passes, when there is one behind those at work.

        `share`: up to so many runs share forward passes, by default `Settings.together`; with 1 each image has the bits
        of a run alone. With how many others a run does is decided when it begins: by how many like it run beside it,
        and by what passes were measured to cost, so that sharing is used where it pays. The same workflow has the same
        number the next time, unless it is to `refresh`.

        `on_event` and `on_outcome` get the number of the workflow first. `timeout`: seconds for all. Raises Cancelled
        and TimedOut when all at work have ended.
        """
        most = self.settings.together if share is None else share
        is_shared = most > 1 and at_once > 1 and self.cluster is None
        with deadline(cancel, timeout) as until:
            return run_many(
                partial(self._run_one, targets, refresh),
                workflows,
                EitherFlag(until),
                at_once=at_once,
                sharing=self._sharing(most, refresh) if is_shared else None,
                on_event=on_event,
                on_outcome=on_outcome,
            )

    def _sharing(self, most: int, is_new: bool) -> SharedRuns:
        return SharedRuns(
            admission=self.passes,
            read=self._workflow,
            likeness=self.likeness,
            calculate=self.pass_costs,
            most=most,
            is_new=is_new,
        )

    def _run_one(
        self,
        targets: Targets | None,
        refresh: bool,
        workflow: Source,
        admitted: AdmittedRun,
        *,
        on_event: Callable[[Event], None],
        cancel: Flag,
    ) -> Result:
        own = self.on_behalf_of(self.settings.owner, admitted.passes, admitted.compare, admitted.expected)
        return own.run(workflow, targets=targets, refresh=refresh, on_event=admitted.heard(on_event), cancel=cancel)

    def likeness(self, workflow: Workflow, *more: object) -> str:
        """Equal for workflows with the same `more` that may share passes, on this device and in this number format."""
        return likeness(workflow.to_json(), *self.settings.forms, *more)

    async def run_many_async(self, workflows: Iterable[Source], **options: Any) -> list[Outcome]:
        """As `run_many`, with the same options, beside whatever else the event loop does. Cancelling the task cancels
        all runs."""
        return await awaited(self.run_many, workflows, options)

    def _settings_for(self, workflow: Workflow) -> Settings:
        """The settings, with the Python values that the workflow names. On a cluster no sampler shares passes: each
        runs alone there."""
        settings = self.settings
        if self.cluster is not None and settings.together > 1:
            settings = replace(settings, together=1)
        return replace(settings, values=workflow.given) if workflow.given else settings

    def _workflow(self, source: Source) -> Workflow:
        return as_workflow(source, None if isinstance(source, Workflow) else self.infos)


def _planned(order: Mapping[str, Bound], settings: Settings) -> tuple[Settings, dict[str, Fingerprint]]:
    try:
        return planned(order, settings)
    except OSError as error:
        raise InvalidWorkflow([Problem("unreadable_file", str(error))]) from error
    except RecursionError:
        raise InvalidWorkflow([Problem("too_deep", "a value is nested about a thousand times")]) from None


def _is_output(kind: NodeType | None) -> bool:
    return kind is not None and kind.is_output
