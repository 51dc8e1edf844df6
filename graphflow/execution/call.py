"""A call: what the function of a node needs, as a value. A thread takes it, a process or another machine could.

It names the node type and holds the inputs; what the function gets besides (its Context, the Settings) belongs to the
place where the call is performed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from ..arrivals import ExpectedRun
from ..document.workflow import Node
from ..events import Event, ModelEvent, NodeMemory
from ..nodetype.context import Context
from ..nodetype.node import NodeType
from ..plan.calls import CallResult, answer
from ..problem import GraphFlowError, Problem
from ..settings import Settings
from ..values import Blocked
from .admission import LaneRequest
from .context import RunContext
from .imports import ImportClock
from .memory import PeakMemory

__all__ = ["Call", "Performed", "Performer", "Spent"]


class Spent(NamedTuple):
    """The seconds that a node took."""

    own: float
    """Of its own work."""
    loading: float = 0.0
    """In which its device loaded models for it."""
    importing: float = 0.0
    """In which the process imported libraries meanwhile."""


class Performed(NamedTuple):
    """The answers of all calls of a node."""

    answers: list[CallResult]
    spent: Spent


class Call(NamedTuple):
    """All calls of one node. Several, where an input carries several values."""

    node: str
    type: str
    """The name of the node type."""
    inputs: tuple[dict[str, Any] | Blocked, ...]
    """For each call the inputs by flat name, its own copies; or what blocks it."""
    place: LaneRequest | None = None
    """The place that it needs in order to compute."""
    is_alone: bool = False
    """Its passes have the size that it needs alone, whatever the settings."""
    display: str | None = None
    """The node of the workflow that this one was made by, if a node expanded into it."""
    states: tuple[bytes, ...] = ()
    """For each call the name under which the cache keeps its state; empty where none is kept."""


class Performer:
    """Performs calls in this process, for one run."""

    def __init__(
        self,
        run: RunContext,
        graph: Mapping[str, Node],
        document: Callable[[str], Callable[[], dict[str, Any]]],
        record: Callable[[str], dict[str, Any]],
    ) -> None:
        """`graph`: all nodes of the run, read when a node asks. `document(node)` makes the JSON of its workflow,
        `record(node)` the record of what its files are made by."""
        self._run, self._graph, self._document, self._record = run, graph, document, record
        self._expected: dict[str, ExpectedRun] = {}

    def expect(self, node_ids: Iterable[str]) -> None:
        """These nodes, of types that work together, begin as one: each knows of the others from its first moment."""
        expected = self._run.settings.expected
        if expected is not None and self._run.settings.together > 1:
            self._expected |= {node_id: expected.sampler() for node_id in node_ids}

    def expect_not(self, node_id: str) -> None:
        """It does not begin now."""
        if node_id in self._expected:
            self._expected.pop(node_id).is_here()

    def perform(self, call: Call) -> Performed:
        """The answers of the function, and the seconds that they took. Raises what the function raises, and
        Cancelled."""
        run, kind = self._run, self._run.types[call.type]
        loading = _Loading(run.settings.notify, run.imports)
        settings = run.settings if call.place is None else replace(run.settings, notify=loading)
        if call.is_alone:
            settings = replace(settings, together=1)
        with self._begun(kind, call, settings) as settings, run.admission.enter(call.place, run.cancel) as at:
            if at:
                settings = _with_first(settings, at)
            arguments = [self._arguments(kind, call, index, settings) for index in range(len(call.inputs))]
            peak = PeakMemory() if call.place is not None else None  # it costs 0.1 ms, as long as ten small calls
            began = time.perf_counter()
            answers = [
                _stopped(kind, each) if isinstance(each, Blocked) else _with_place(kind, each, kind.function(**each))
                for each in arguments
            ]
            ended = time.perf_counter()
            if peak is not None and (most := peak.bytes()) is not None:
                run.emit(NodeMemory(call.node, most))
            importing = run.imports.within(began, ended)
            own = max(0.0, ended - began - importing - loading.seconds)
            return Performed(answers, Spent(own, loading.seconds, importing))

    @contextmanager
    def _begun(self, kind: NodeType, call: Call, settings: Settings) -> Iterator[Settings]:
        """The settings of a node; those that share passes with it may wait for it until the end of the block."""
        expected = self._expected.pop(call.node, None)
        if expected is None and settings.expected is not None and settings.together > 1 and kind.together:
            expected = settings.expected.sampler()
        try:
            yield settings if expected is None else replace(settings, expected=expected)
        finally:
            if expected is not None:
                expected.is_here()

    async def perform_async(self, call: Call) -> list[CallResult]:
        """As `perform`, for an async function; its calls go on at the same time."""
        kind = self._run.types[call.type]
        arguments = [self._arguments(kind, call, index, self._run.settings) for index in range(len(call.inputs))]
        return list(await asyncio.gather(*(_await(kind, each) for each in arguments)))

    def _arguments(self, kind: NodeType, call: Call, index: int, settings: Settings) -> dict[str, Any] | Blocked:
        """The arguments of one call."""
        inputs = call.inputs[index]
        if isinstance(inputs, Blocked):
            return inputs
        run = self._run
        values = kind.arguments(inputs) if kind.is_dynamic else inputs
        if kind.context is not None:
            state = call.states[index] if call.states else None
            values[kind.context] = Context(
                call.node,
                settings,
                self._document(call.node),
                run.emit,
                run.cancel,
                run.claims,
                run.extra_pnginfo,
                run.cache.checkpoint(state, run.settings.checkpoint_every, run.refresh) if state is not None else None,
                call=index,
                display=call.display,
                graph=self._graph,
                numbering=run.numbering,
                record=lambda: self._record(call.node),
            )
        if kind.settings is not None:
            values[kind.settings] = settings
        return values


def _with_first(settings: Settings, at: int) -> Settings:
    """The settings with this one of the devices before the others."""
    devices = settings.devices
    return replace(settings, device="+".join((*devices[at:], *devices[:at])))


class _Loading:
    """Hears of the models that are loaded for one node, passes it on, and adds up the seconds without those of
    importing."""

    def __init__(self, notify: Callable[[Event], None] | None, imports: ImportClock) -> None:
        self._notify, self._imports = notify, imports
        self.seconds = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, ModelEvent) and event.seconds:
            now = time.perf_counter()
            self.seconds += max(0.0, event.seconds - self._imports.within(now - event.seconds, now))
        if self._notify is not None:
            self._notify(event)


async def _await(kind: NodeType, arguments: dict[str, Any] | Blocked) -> CallResult:
    if isinstance(arguments, Blocked):
        return _stopped(kind, arguments)
    try:
        return _with_place(kind, arguments, await kind.function(**arguments))
    except (SystemExit, KeyboardInterrupt) as error:  # they would end the event loop, and with it all other async nodes
        raise GraphFlowError([Problem("node_failed", f"{type(error).__name__}: {error}")]) from error


def _with_place(kind: NodeType, arguments: dict[str, Any], value: Any) -> CallResult:
    """The answer, with what the call asked of its place in the workflow."""
    found = answer(kind, value)
    asked = arguments[kind.context].asked if kind.context is not None else None
    return found._replace(asked=asked) if asked else found


def _stopped(kind: NodeType, stop: Blocked) -> CallResult:
    return CallResult((Blocked(),) * len(kind.outputs), blocked=stop)
