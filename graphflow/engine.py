"""The engine: node types, a cache and workers. `with Engine() as engine: engine.run(workflow)`."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event as Flag
from typing import Any

from .cache import Cache
from .check.validate import Bound, runnable, validate, with_malformed
from .document.workflow import Source, Workflow
from .events import Event, RunDone
from .execution import Admission, Run, RunContext
from .execution.listener import Listener
from .execution.reading import watched
from .execution.stream import awaited, stream
from .formats import read
from .formats.files import read_file
from .formats.object_info import NodeInfos, RegistryInfos
from .nodetype.node import NodeType
from .plan.bulk import in_bulk, kept
from .plan.explain import Explanation, explain
from .plan.fingerprint import Fingerprint, fingerprints
from .problem import Cancelled, InvalidWorkflow, NodeFailed, Problem, UnusedInput
from .registry import Registry
from .request import Targets, names_of, workflow_of
from .results import NodeResult, Result, SavedImage, node_result
from .settings import Settings

__all__ = ["Checked", "Engine", "NodeResult", "Result", "SavedImage", "node_result", "run"]


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
    ) -> None:
        self.registry = Registry.installed() if registry is None else registry
        self.settings = settings or Settings()
        self.cache = Cache() if cache is None else cache
        self._owns_cache = cache is None
        self.workers = workers or max(2, os.cpu_count() or 2)
        self.admission = Admission()

    def __enter__(self) -> Engine:
        self.cache.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.cache.close()
        if self._owns_cache:
            self.cache.memory.clear()

    def forget(self, run_id: str) -> None:
        """Drop the notes of a run about the files it wrote; the files stay."""
        shutil.rmtree(self.settings.claims(run_id), ignore_errors=True)

    @cached_property
    def infos(self) -> NodeInfos:
        """The descriptions of its node types: what reading the editor's own format needs."""
        return RegistryInfos(self.registry, self.settings)

    def load(self, path: str | Path) -> Workflow:
        """Read a workflow file of any kind: API format, the editor's own format, an image that carries either.

        Raises InvalidWorkflow; where nodes are malformed, with what is wrong with the others as well.
        """
        workflow, malformed = read(read_file(path).data, self.infos)
        if malformed:
            raise InvalidWorkflow(with_malformed(malformed, workflow, self.validate(workflow)))
        return workflow

    def validate(self, workflow: Source) -> list[Problem]:
        """All problems of the workflow; none means that it can run. `check(...).warnings` are odd and stop nothing."""
        return validate(self._workflow(workflow), self.registry, self.settings)[1]

    def check(self, workflow: Source, targets: Targets | None = None) -> Checked:
        """Which of the workflow's output nodes, or of the `targets`, can run; targets as in `run`.

        A problem stops only the outputs that stand on it. Raises InvalidWorkflow where a target is not to be found.
        """
        workflow, warnings = self._workflow(workflow), list[Problem]()
        order, problems = validate(workflow, self.registry, self.settings, warnings)
        names = names_of(targets)
        if names is None:
            wanted = [key for key, node in workflow.items() if _is_output(self.registry.get(node.class_type))]
        else:
            wanted = [workflow.find(name) for name in names]
            problems = [problem for problem in problems if problem.code != "no_output"]
        good = runnable(order, problems) if problems else order
        outputs = tuple(key for key in wanted if key in good)
        return Checked(good, tuple(problems), tuple(warnings), tuple(wanted), outputs)

    def explain(self, workflow: Source) -> list[Explanation]:
        """For each node whether it is cached, and why; runs nothing. Raises InvalidWorkflow."""
        workflow = self._workflow(workflow)
        order, problems = validate(workflow, self.registry, self.settings)
        if problems:
            raise InvalidWorkflow(problems)
        wanted = [key for key, item in order.items() if item.type.is_output]
        prints = _fingerprints(order, self.settings)
        with self.cache:
            self.cache.fetch([prints[key].recipe for key in order])
            return explain(workflow, order, prints, self.cache, self.settings, wanted, self.registry)

    @kept()
    def run(
        self,
        workflow: Source,
        *,
        targets: Targets | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """Run the workflow's output nodes, or the `targets`: one or several, each an id, a title, a type, or the node of a
        graph itself. With targets, problems that they do not stand on stop nothing.

        A run with a `run_id` that is made again under it, after a crash, writes no file twice; call `forget(run_id)`
        when its result is safe. Saved images carry `extra_pnginfo` besides the workflow.
        `on_event` is called in the calling thread and in the nodes' threads. If it raises, the run stops, and raises the
        same at its end.

        `refresh` computes everything and replaces what is cached.

        Inputs that no node uses are reported with `warnings.warn` (UnusedInput): ComfyUI's files have some.
        Raises InvalidWorkflow before anything runs, NodeFailed after all that could run has run, Cancelled.
        """
        workflow = self._workflow(workflow)
        emit = Listener(on_event, cancel)
        cancel = emit.cancel
        began = time.perf_counter()
        with in_bulk():
            checked = self.check(workflow, targets)
            wanted = checked.targets
            if checked.problems and (targets is None or not set(wanted) <= set(checked.outputs)):
                raise InvalidWorkflow(checked.problems)
            for problem in checked.warnings:
                warnings.warn(str(problem), UnusedInput, stacklevel=3)
            order = checked.order
            settings = watched(self.settings, cancel, emit)
            try:
                prints = _fingerprints(order, settings)
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
            emit(RunDone(status, time.perf_counter() - began))
            emit.raise_error()
        if work.problems:
            raise NodeFailed(work.problems)
        nodes = {key: node_result(order[key], entry) for key, entry in work.results.items()}
        return Result(
            workflow, nodes, work.timings, tuple(work.cached), time.perf_counter() - began, tuple(emit.models)
        )

    def stream(self, workflow: Source, **options: Any) -> AsyncIterator[Event]:
        """The events of a run as they happen: `async for event in engine.stream(workflow)`; options as in `run`.

        The run goes on in a thread. Leaving the loop cancels it; at its end is raised what `run` raises.
        """
        return stream(self.run, workflow, options)

    async def run_async(self, workflow: Source, **options: Any) -> Result:
        """As `run`, beside whatever else the event loop does. Cancelling the task cancels the run."""
        return await awaited(self.run, workflow, options)

    def _workflow(self, source: Source) -> Workflow:
        return workflow_of(source, None if isinstance(source, Workflow) else self.infos)


def run(workflow: Source, **options: Any) -> Result:
    """Run a workflow, a graph, or a workflow file, on an engine of its own."""
    with Engine() as engine:
        return engine.run(workflow, **options)


def _fingerprints(order: Mapping[str, Bound], settings: Settings) -> dict[str, Fingerprint]:
    try:
        return fingerprints(order, settings)
    except OSError as error:
        raise InvalidWorkflow([Problem("unreadable_file", str(error))]) from error
    except RecursionError:
        raise InvalidWorkflow([Problem("too_deep", "a value is nested about a thousand times")]) from None


def _is_output(kind: NodeType | None) -> bool:
    return kind is not None and kind.is_output
