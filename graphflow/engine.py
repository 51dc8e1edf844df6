"""Engine: registry + cache + workers. `with Engine() as engine: engine.run(workflow)`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Any

from .cache import Entry, MemoryCache
from .events import Event, RunDone
from .execute import Run
from .fingerprint import recipes
from .problem import Cancelled, InvalidWorkflow, NodeFailed, Problem
from .registry import Registry
from .settings import Settings
from .validate import Bound, validate
from .workflow import Workflow

__all__ = ["Engine", "NodeResult", "Result", "SavedImage", "run"]


@dataclass(frozen=True, slots=True)
class SavedImage:
    """A picture that a run has written; shows itself in a notebook."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one output node gave."""

    outputs: dict[str, Any]
    ui: dict[str, Any]

    @property
    def images(self) -> list[SavedImage]:
        return [SavedImage(Path(item["path"])) for item in self.ui.get("images", ()) if "path" in item]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave: results by node id, and by title or type through `result["SaveImage"]`."""

    workflow: Workflow
    nodes: dict[str, NodeResult]
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds of each node that ran."""
    cached: tuple[str, ...] = ()
    """Nodes whose outputs were known; what lies behind them was not looked at."""
    seconds: float = 0.0

    def __getitem__(self, name: str) -> NodeResult:
        return self.nodes[self.workflow.find(name)]

    @property
    def images(self) -> list[SavedImage]:
        return [image for item in self.nodes.values() for image in item.images]


class Engine:
    """Runs workflows; keeps what they compute. Creating one starts no thread and imports no model library."""

    def __init__(
        self,
        registry: Registry | None = None,
        settings: Settings | None = None,
        cache: MemoryCache | None = None,
        workers: int | None = None,
    ) -> None:
        self.registry = Registry.installed() if registry is None else registry
        self.settings = settings or Settings()
        self.cache = MemoryCache() if cache is None else cache
        self.workers = workers or max(2, os.cpu_count() or 2)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.cache.clear()

    def forget(self, run_id: str) -> None:
        """Drop the notes of a run about the files it wrote; the files stay."""
        shutil.rmtree(self.settings.claims(run_id), ignore_errors=True)

    def validate(self, workflow: Workflow) -> list[Problem]:
        """All problems of the workflow; none means that it can run."""
        return validate(workflow, self.registry, self.settings)[1]

    def run(
        self,
        workflow: Workflow,
        *,
        targets: Iterable[str] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """Run the workflow's output nodes, or the `targets` (ids, titles or types).

        A run with a `run_id` that is made again under it, after a crash, writes no file twice; call `forget(run_id)`
        when its result is safe. `extra_pnginfo` is what saved pictures carry besides the workflow.
        `on_event` is called in the calling thread and in the nodes' threads.

        Raises InvalidWorkflow before anything runs, NodeFailed after all that could run has run, Cancelled.
        """
        emit = on_event or _ignore
        began = time.perf_counter()
        order, problems = validate(workflow, self.registry, self.settings)
        if targets is None:
            wanted = [key for key, item in order.items() if item.type.is_output]
        else:
            wanted = [workflow.find(name) for name in targets]
            problems = [problem for problem in problems if problem.code != "no_output"]
        if problems:
            raise InvalidWorkflow(problems)
        try:
            found = recipes(order, self.settings)
        except OSError as error:
            raise InvalidWorkflow([Problem("unreadable_file", str(error))]) from error
        work = Run(
            workflow, order, found, self.cache, self.settings, emit, cancel or Flag(), self.workers,
            self.settings.claims(run_id) if run_id else None, extra_pnginfo,
        )  # fmt: skip
        status = "failed"
        try:
            work.execute(wanted)
            status = "failed" if work.problems else "done"
        except Cancelled:
            status = "cancelled"
            raise
        finally:
            emit(RunDone(status, time.perf_counter() - began))
        if work.problems:
            raise NodeFailed(work.problems)
        nodes = {key: _node_result(order[key], entry) for key, entry in work.results.items()}
        return Result(workflow, nodes, work.timings, tuple(work.cached), time.perf_counter() - began)


def run(workflow: Workflow | str | Path, **options: Any) -> Result:
    """Run a workflow, or a workflow file, on an engine of its own."""
    with Engine() as engine:
        return engine.run(workflow if isinstance(workflow, Workflow) else Workflow.load(workflow), **options)


def _node_result(node: Bound, entry: Entry) -> NodeResult:
    names = [output.name for output in node.type.outputs]
    return NodeResult(dict(zip(names, entry.outputs, strict=True)), entry.ui or {})


def _ignore(_: Event) -> None: ...
