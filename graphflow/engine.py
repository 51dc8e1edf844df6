"""Engine: registry + cache + workers. `with Engine() as engine: engine.run(workflow)`."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from threading import Event as Flag
from typing import Any

from .cache import Cache, Entry
from .check.validate import Bound, beside, sound, validate
from .document.workflow import Source, Workflow, as_workflow
from .events import Event, ModelEvent, RunDone
from .execution import Run, Surroundings
from .execution.lanes import Lanes
from .execution.reading import watched
from .execution.stream import awaited, stream
from .formats.files import read_file
from .formats.object_info import NodeInfos, RegistryInfos
from .look.show import html_of_files, html_of_outputs, in_words
from .nodetype.node import NodeType
from .plan.bulk import in_bulk, kept
from .plan.explain import Explanation, explain
from .plan.fingerprint import Fingerprint, fingerprints
from .problem import Cancelled, InvalidWorkflow, NodeFailed, Problem, UnusedInput
from .registry import Registry
from .settings import Settings
from .values import share

__all__ = ["Checked", "Engine", "NodeResult", "Result", "SavedImage", "node_result", "run"]


@dataclass(frozen=True, slots=True)
class SavedImage:
    """A picture that a run has written; shows itself in a notebook."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True, repr=False)
class NodeResult:
    """What one output node gave."""

    outputs: dict[str, Any]
    ui: dict[str, Any]

    @property
    def images(self) -> list[SavedImage]:
        return [SavedImage(Path(item["path"])) for item in self.ui.get("images", ()) if "path" in item]

    @property
    def paths(self) -> list[Path]:
        """All files that the node has written, pictures among them."""
        items = [item for shown in self.ui.values() if isinstance(shown, (list, tuple)) for item in shown]
        return [Path(item["path"]) for item in items if isinstance(item, dict) and "path" in item]

    def __repr__(self) -> str:
        outputs = "".join(f" {name}={in_words(value)}" for name, value in self.outputs.items())
        files = "".join(f" {path}" for path in self.paths)
        return f"<NodeResult{outputs}{files}>"

    def _repr_html_(self) -> str:
        return html_of_files(self.paths) + html_of_outputs(self.outputs)


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What a run gave: results by node id, and by title or type through `result["SaveImage"]`."""

    workflow: Workflow
    nodes: dict[str, NodeResult]
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds of each node that ran."""
    cached: tuple[str, ...] = ()
    """Nodes that did not have to run."""
    seconds: float = 0.0
    models: tuple[ModelEvent, ...] = ()
    """What devices loaded, used again and dropped: file, part, number format, bytes, seconds."""

    def __getitem__(self, name: str) -> NodeResult:
        key = self.workflow.find(name)
        if key not in self.nodes:
            raise KeyError(f"no result of node {key} was asked for: run with targets=[{name!r}]")
        return self.nodes[key]

    def __contains__(self, name: str) -> bool:
        try:
            return self.workflow.find(name) in self.nodes
        except InvalidWorkflow:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    @property
    def images(self) -> list[SavedImage]:
        return [image for item in self.nodes.values() for image in item.images]

    @property
    def paths(self) -> list[Path]:
        """All files that the run has written, or had written when it was first made."""
        return [path for item in self.nodes.values() for path in item.paths]

    def __repr__(self) -> str:
        return f"<Result: {len(self.timings)} nodes ran, {len(self.cached)} cached, {self.seconds:.2f} s>"

    def _repr_html_(self) -> str:
        return "".join(item._repr_html_() for item in self.nodes.values()) + f"<div>{escape(repr(self)[9:-1])}</div>"


@dataclass(frozen=True, slots=True)
class Checked:
    """What validation says of a workflow."""

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
        self.lanes = Lanes()

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
        """Read a workflow file of any kind: API format, the editor's own format, a picture that carries either.

        Raises InvalidWorkflow; where nodes are malformed, with what is wrong with the others as well.
        """
        workflow, malformed = Workflow.read(read_file(path).data, self.infos)
        if malformed:
            raise InvalidWorkflow(beside(malformed, workflow, self.validate(workflow)))
        return workflow

    def validate(self, workflow: Source) -> list[Problem]:
        """All problems of the workflow; none means that it can run. What is odd and stops nothing: `check(...).warnings`."""
        return validate(self._taken(workflow), self.registry, self.settings)[1]

    def check(self, workflow: Source, targets: Iterable[str] | None = None) -> Checked:
        """What of the workflow can run: its output nodes, or the `targets` (ids, titles or types).

        A problem stops only the outputs that stand on it. Raises InvalidWorkflow where a target is not to be found.
        """
        workflow, warnings = self._taken(workflow), list[Problem]()
        order, problems = validate(workflow, self.registry, self.settings, warnings)
        if targets is None:
            wanted = [key for key, node in workflow.items() if _is_output(self.registry.get(node.class_type))]
        else:
            wanted = [workflow.find(name) for name in targets]
            problems = [problem for problem in problems if problem.code != "no_output"]
        good = sound(order, problems) if problems else order
        outputs = tuple(key for key in wanted if key in good)
        return Checked(good, tuple(problems), tuple(warnings), tuple(wanted), outputs)

    def explain(self, workflow: Source) -> list[Explanation]:
        """For each node whether it is cached, and why; runs nothing. Raises InvalidWorkflow."""
        workflow = self._taken(workflow)
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
        targets: Iterable[str] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """Run the workflow's output nodes, or the `targets` (ids, titles or types). With targets, problems that they do
        not stand on stop nothing.

        A run with a `run_id` that is made again under it, after a crash, writes no file twice; call `forget(run_id)`
        when its result is safe. `extra_pnginfo` is what saved pictures carry besides the workflow.
        `on_event` is called in the calling thread and in the nodes' threads.

        `refresh` computes everything and replaces what is cached.

        Inputs that no node uses are told with `warnings.warn` (UnusedInput): files of the field have some.
        Raises InvalidWorkflow before anything runs, NodeFailed after all that could run has run, Cancelled.
        """
        workflow = self._taken(workflow)
        models: list[ModelEvent] = []
        emit = _noting(models, on_event or _ignore)
        began = time.perf_counter()
        with in_bulk():
            checked = self.check(workflow, targets)
            wanted = checked.targets
            if checked.problems and (targets is None or not set(wanted) <= set(checked.outputs)):
                raise InvalidWorkflow(checked.problems)
            for problem in checked.warnings:
                warnings.warn(str(problem), UnusedInput, stacklevel=3)
            order = checked.order
            cancel = cancel or Flag()
            settings = watched(self.settings, cancel, emit)
            try:
                prints = _fingerprints(order, settings)
            except Cancelled:
                emit(RunDone("cancelled", time.perf_counter() - began))
                raise
        around = Surroundings(
            self.cache, settings, self.lanes, self.workers, emit, cancel, refresh,
            self.settings.claims(run_id) if run_id else None, extra_pnginfo, self.registry,
        )  # fmt: skip
        work = Run(workflow, order, prints, around)
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
        if work.problems:
            raise NodeFailed(work.problems)
        nodes = {key: node_result(order[key], entry) for key, entry in work.results.items()}
        return Result(workflow, nodes, work.timings, tuple(work.cached), time.perf_counter() - began, tuple(models))

    def stream(self, workflow: Source, **options: Any) -> AsyncIterator[Event]:
        """The events of a run as they happen: `async for event in engine.stream(workflow)`; options as in `run`.

        The run goes on in a thread. Leaving the loop cancels it; at its end is raised what `run` raises.
        """
        return stream(self.run, workflow, options)

    async def run_async(self, workflow: Source, **options: Any) -> Result:
        """As `run`, beside whatever else the event loop does. Cancelling the task cancels the run."""
        return await awaited(self.run, workflow, options)

    def _taken(self, source: Source) -> Workflow:
        """What is asked to run may be a graph, JSON or a file as well."""
        return source if isinstance(source, Workflow) else as_workflow(source, self.infos)


def run(workflow: Source, **options: Any) -> Result:
    """Run a workflow, a graph, or a workflow file, on an engine of its own."""
    with Engine() as engine:
        return engine.run(workflow, **options)


def node_result(node: Bound, entry: Entry) -> NodeResult:
    names = [output.name for output in node.type.outputs]
    outputs = tuple(share(value) for value in entry.outputs or ())
    return NodeResult(dict(zip(names, outputs, strict=True)), share(entry.ui) or {})


def _fingerprints(order: Mapping[str, Bound], settings: Settings) -> dict[str, Fingerprint]:
    try:
        return fingerprints(order, settings)
    except OSError as error:
        raise InvalidWorkflow([Problem("unreadable_file", str(error))]) from error
    except RecursionError:
        raise InvalidWorkflow([Problem("too_deep", "a value is nested about a thousand times")]) from None


def _is_output(kind: NodeType | None) -> bool:
    return kind is not None and kind.is_output


def _noting(models: list[ModelEvent], emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Keeps what is heard about models, and passes all on."""

    def heard(event: Event) -> None:
        if isinstance(event, ModelEvent):
            models.append(event)
        emit(event)

    return heard


def _ignore(_: Event) -> None: ...
