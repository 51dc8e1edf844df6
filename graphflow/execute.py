"""The run: what is ready runs, what is cached is skipped, a failure stops only what depends on it.

One scheduler for all callers. It lives in the calling thread and owns all state; workers only call node functions and
report back through one queue. When a single blocking node is ready and nothing is in flight, it is called in place:
there is nothing to overlap with, and a chain of small nodes then costs microseconds a node.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any

from .cache import Cache, Checkpoint, Entry, Lease, Origin
from .context import Context
from .events import Event, NodeCached, NodeDone, NodeError, NodeStarted, RunStarted
from .fingerprint import Fingerprint, content_key
from .node import Lazy, NotComputed, Ui
from .plan import Known, plan
from .problem import Cancelled, GraphFlowError, Problem
from .settings import Settings
from .validate import Bound
from .values import Encoded, share
from .workers import Lanes, Workers, protected
from .workflow import Workflow

__all__ = ["Run", "Surroundings"]

POLL = 0.05
"""Seconds between two looks at a lease that another process holds."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run gets from its engine and its caller."""

    cache: Cache
    settings: Settings
    lanes: Lanes
    workers: int
    emit: Callable[[Event], None]
    cancel: Flag
    refresh: bool = False
    """Compute everything, and replace what the cache holds."""
    claims: Path | None = None
    extra_pnginfo: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Hold:
    """The right to compute a recipe, taken once, kept until the node is done or has failed."""

    recipe: bytes
    key: bytes | None = None
    lease: Lease | None = None
    checkpoint: Checkpoint | None = None
    elsewhere: bool = False
    """Another run of this process computes it, and this one waits."""


class Run:
    """One execution of a bound workflow. After `execute()`: `results`, `timings`, `cached`, `problems`."""

    def __init__(
        self, workflow: Workflow, order: Mapping[str, Bound], prints: Mapping[str, Fingerprint], around: Surroundings
    ) -> None:
        self._workflow, self._order, self._prints, self._around = workflow, order, prints, around
        self._cache, self._emit, self._cancel = around.cache, around.emit, around.cancel
        self._wanted: frozenset[str] = frozenset()
        self._entries: dict[str, Entry] = {}
        self._waiting: dict[str, int] = {}
        self._users: dict[str, list[str]] = {}
        self._uses: dict[str, int] = {}
        self._asked: dict[str, set[str]] = {}
        self._handles: set[str] = set()
        self._holds: dict[str, _Hold] = {}
        self._leased_elsewhere: list[str] = []
        self._ready: deque[str] = deque()
        self._busy_lanes: set[str] = set()
        self._flying = 0
        self._done: SimpleQueue[tuple[str, Any, BaseException | None, float]] = SimpleQueue()
        self._workers = Workers(around.workers, self._done)
        self.results: dict[str, Entry] = {}
        self.timings: dict[str, float] = {}
        self.cached: dict[str, None] = {}
        self.problems: list[Problem] = []

    def execute(self, wanted: Iterable[str]) -> None:
        """Run until all wanted nodes are done or cannot be. Raises Cancelled."""
        wanted = list(wanted)
        self._wanted = frozenset(wanted)
        try:
            self._add(wanted, first=True)
            self._loop()
            if self._cancel.is_set() and not self._wanted <= self.results.keys():
                raise Cancelled()  # seen by the last node that was in flight, so that nothing was left to loop over
        finally:
            self._workers.close()
            for node_id in list(self._holds):
                self._let_go(node_id, None)

    # -- planning ---------------------------------------------------------------------------------------------------

    def _add(self, wanted: list[str], first: bool = False) -> None:
        """Plan these nodes and what they need, and let what can start be ready."""
        todo = plan(self._order, wanted, self._ask)
        if first:
            running = tuple(node_id for node_id in todo.graph if node_id not in todo.handles)
            self._emit(RunStarted(running, todo.cached))
        self._handles |= todo.handles
        for node_id in todo.cached:
            if node_id not in self.timings and node_id not in self.cached:
                self._note_cached(node_id, "stored")
        for node_id in todo.graph:
            if node_id in self._waiting:
                continue
            self._waiting[node_id] = todo.graph.in_degree(node_id)
            for source in todo.graph.predecessors(node_id):
                self._users.setdefault(source, []).append(node_id)
            for link in self._order[node_id].links.values():
                self._uses[link.node] = self._uses.get(link.node, 0) + 1
            if self._waiting[node_id] == 0:
                self._ready.append(node_id)

    def _ask(self, node_id: str) -> Known:
        if node_id in self._entries:
            return Known.YES
        if self._around.refresh:
            return Known.NO
        kind = self._order[node_id].type
        entry = self._cache.get(self._prints[node_id].recipe)
        if entry is None or not self._still_valid(node_id, entry):
            return Known.NO
        if entry.outputs is None and kind.outputs:
            return Known.HANDLES
        self._entries[node_id] = entry
        return Known.YES

    def _still_valid(self, node_id: str, entry: Entry) -> bool:
        kind = self._order[node_id].type
        return kind.still_valid is None or kind.still_valid(self._around.settings, entry.ui)

    def _note_cached(self, node_id: str, reason: str) -> None:
        entry = self._entries.get(node_id)
        self.cached[node_id] = None
        self._emit(NodeCached(node_id, entry.ui if entry is not None else None, reason))
        if node_id in self._wanted and entry is not None:
            self.results[node_id] = entry

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while self._ready or self._flying or self._leased_elsewhere:
            if self._cancel.is_set():
                self._drain()
                raise Cancelled()
            if len(self._ready) == 1 and not self._flying and not self._leased_elsewhere:
                node_id = self._ready.popleft()
                if not self._prepare(node_id):
                    continue
                kind = self._order[node_id].type
                if not kind.is_async:
                    work = self._work(node_id)
                    began = time.perf_counter()
                    value, error = protected(work)
                    self._finish(node_id, value, error, time.perf_counter() - began)
                    continue
                self._launch(node_id)
            self._dispatch()
            try:
                node_id, value, error, seconds = self._done.get(timeout=POLL if self._leased_elsewhere else 0.2)
            except Empty:
                self._ready.extend(self._leased_elsewhere)
                self._leased_elsewhere.clear()
                continue
            self._flying -= 1
            if isinstance(value, _Elsewhere):
                self._finish_elsewhere(node_id, value.entry)
            else:
                self._busy_lanes.discard(self._order[node_id].type.lane or "")
                self._finish(node_id, value, error, seconds)

    def _dispatch(self) -> None:
        """Hand all ready nodes to workers, but at most one of each lane at a time."""
        held: list[str] = []
        while self._ready:
            node_id = self._ready.popleft()
            lane = self._order[node_id].type.lane
            if lane is not None and lane in self._busy_lanes:
                held.append(node_id)
            elif self._prepare(node_id):
                self._launch(node_id)
        self._ready.extend(held)

    def _launch(self, node_id: str) -> None:
        kind = self._order[node_id].type
        if kind.lane is not None:
            self._busy_lanes.add(kind.lane)
        self._flying += 1
        self._workers.start(node_id, self._work(node_id), kind.is_async)

    def _drain(self) -> None:
        """Wait for what is in flight: nodes see the cancellation at their next step."""
        own = self._flying - sum(1 for hold in self._holds.values() if hold.elsewhere)
        while own > 0:
            node_id, value, error, seconds = self._done.get()
            if isinstance(value, _Elsewhere):
                continue
            own -= 1
            if error is None:
                self._finish(node_id, value, None, seconds)

    # -- one node ---------------------------------------------------------------------------------------------------

    def _prepare(self, node_id: str) -> bool:
        """Whether to call the node: not if its key is known, or somebody else is computing the same."""
        if node_id in self._handles or node_id in self._holds:
            return True
        around, mine = self._around, self._prints[node_id]
        if not self._cache.is_on:
            self._holds[node_id] = _Hold(mine.recipe)
            self._emit(NodeStarted(node_id))
            return True
        key = content_key(mine, self._order[node_id], self._content)
        if key is not None and not around.refresh:
            same = self._cache.find(key)
            if same is not None and same.outputs is not None and self._still_valid(node_id, same):
                self._cache.put_again(mine.recipe, key, same, self._origin(node_id))
                self._finish_known(node_id, same, "same content")
                return False
        flying = self._cache.begin(mine.recipe)
        if flying is not None:
            self._flying += 1
            self._holds[node_id] = _Hold(mine.recipe, elsewhere=True)
            flying.add_done_callback(lambda future: self._report_elsewhere(node_id, future))
            return False
        ours, lease = self._cache.lease(mine.recipe)
        if not ours:
            self._cache.end(mine.recipe, None)
            self._leased_elsewhere.append(node_id)
            return False
        hold = self._holds[node_id] = _Hold(mine.recipe, key, lease)
        if not around.refresh and self._order[node_id].type.deterministic:
            # Another process may have finished between the planning and the lease.
            entry = self._cache.get(mine.recipe) if hold.lease is not None else None
            if entry is not None and entry.outputs is not None and self._still_valid(node_id, entry):
                self._let_go(node_id, entry)
                self._finish_known(node_id, entry, "shared")
                return False
        hold.checkpoint = self._cache.checkpoint(mine.recipe, around.settings.checkpoint_every)
        self._emit(NodeStarted(node_id))
        return True

    def _report_elsewhere(self, node_id: str, future: Future[Entry | None]) -> None:
        self._done.put((node_id, _Elsewhere(future.result()), None, 0.0))

    def _content(self, node_id: str, slot: int) -> bytes | None:
        entry = self._entries.get(node_id)
        return entry.contents[slot] if entry is not None and slot < len(entry.contents) else None

    def _origin(self, node_id: str) -> Origin:
        node, mine = self._order[node_id], self._prints[node_id]
        links = {name: (self._prints[link.node].recipe, link.slot) for name, link in node.links.items()}
        return Origin(node.type.name, mine.version, node.literals, links, mine.outside, mine.environment, node_id)

    def _work(self, node_id: str) -> Callable[[], Any]:
        """What a worker does: call the function in its lane, and make an entry of what it gives."""
        node, around = self._order[node_id], self._around
        kind = node.type
        values = self._values(node_id)
        if kind.is_async:
            return lambda: kind.function(**values)

        def work() -> tuple[Entry, tuple[Encoded, ...] | None]:
            with around.lanes.enter(kind.lane, around.cancel):
                began = time.perf_counter()
                value = kind.function(**values)
                seconds = time.perf_counter() - began
            return self._entry(node_id, value, seconds)

        return work

    def _values(self, node_id: str) -> dict[str, Any]:
        node, around = self._order[node_id], self._around
        kind = node.type
        values = {name: share(value) for name, value in node.literals.items()}
        asked = self._asked.get(node_id, ())
        for name, link in node.links.items():
            if name not in kind.lazy or name in asked:
                outputs = self._entries[link.node].outputs
                assert outputs is not None
                values[name] = share(outputs[link.slot])
        for name in kind.lazy:
            if name in values:
                values[name] = Lazy(name, values[name], known=True)
            elif name in node.links:
                values[name] = Lazy(name)
        if kind.context is not None:
            hold = self._holds.get(node_id)
            values[kind.context] = Context(
                node_id, around.settings, self._workflow.to_json, self._emit, self._cancel, around.claims,
                around.extra_pnginfo, hold.checkpoint if hold is not None else None,
            )  # fmt: skip
        if kind.settings is not None:
            values[kind.settings] = around.settings
        return values

    def _entry(self, node_id: str, value: Any, seconds: float) -> tuple[Entry, tuple[Encoded, ...] | None]:
        kind = self._order[node_id].type
        ui = None
        outputs: tuple[Any, ...]
        if isinstance(value, Ui):
            ui, outputs = value.data, value.outputs
        elif len(kind.outputs) == 0:
            outputs = ()
        elif len(kind.outputs) == 1 and not (type(value) is tuple and len(value) == 1):
            outputs = (value,)
        else:
            outputs = tuple(value)
        if len(outputs) != len(kind.outputs):
            raise TypeError(f"{kind.name} gave {len(outputs)} outputs, but declares {len(kind.outputs)}")
        if not self._cache.is_on:
            return Entry(outputs, (None,) * len(outputs), ui, seconds), None
        return self._cache.make(outputs, ui, seconds)

    # -- the end of a node ------------------------------------------------------------------------------------------

    def _finish(self, node_id: str, value: Any, error: BaseException | None, seconds: float) -> None:
        if isinstance(error, NotComputed):
            self._wait_for_lazy(node_id, error.name)
            return
        if error is None and self._order[node_id].type.is_async:
            try:
                value = self._entry(node_id, value, seconds)
            except Exception as wrong:
                error = wrong
        if error is not None:
            self._fail(node_id, error)
            return
        entry, encoded = value
        if node_id in self._handles:
            self._entries[node_id] = entry
            self._cache.memory.put(self._prints[node_id].recipe, entry)
        else:
            self.timings[node_id] = self.timings.get(node_id, 0.0) + seconds
            hold = self._holds.pop(node_id)
            if self._cache.is_on:
                self._cache.put(hold.recipe, hold.key, entry, encoded, self._origin(node_id), hold.lease)
                self._cache.end(hold.recipe, entry)
            if hold.checkpoint is not None:
                hold.checkpoint.drop()
            self._entries[node_id] = entry
            self._emit(NodeDone(node_id, seconds, entry.ui))
        self._tell_users(node_id)

    def _finish_known(self, node_id: str, entry: Entry, reason: str) -> None:
        self._entries[node_id] = entry
        self._note_cached(node_id, reason)
        self._tell_users(node_id)

    def _finish_elsewhere(self, node_id: str, entry: Entry | None) -> None:
        """Another run of this process had the same node: take its result, or try in its place."""
        del self._holds[node_id]
        if entry is None or entry.outputs is None:
            self._ready.append(node_id)
        else:
            self._finish_known(node_id, entry, "shared")

    def _tell_users(self, node_id: str) -> None:
        if node_id in self._wanted:
            self.results[node_id] = self._entries[node_id]
        for user in self._users.pop(node_id, ()):
            self._waiting[user] -= 1
            if self._waiting[user] == 0:
                self._ready.append(user)
        # Forget values that nothing planned needs any more; the cache has its own hold on them. A lazy input may be
        # asked for late, so where there are any, all stay.
        if not self._asked:
            for link in self._order[node_id].links.values():
                self._uses[link.node] -= 1
                if self._uses[link.node] == 0:
                    self._entries.pop(link.node, None)

    def _wait_for_lazy(self, node_id: str, name: str) -> None:
        source = self._order[node_id].links[name].node
        self._asked.setdefault(node_id, set()).add(name)
        self._add([source])
        if source in self._entries:
            self._ready.append(node_id)
        else:
            self._waiting[node_id] = 1
            self._users.setdefault(source, []).append(node_id)

    def _let_go(self, node_id: str, entry: Entry | None) -> None:
        hold = self._holds.pop(node_id)
        if hold.elsewhere:
            return
        self._cache.end(hold.recipe, entry)
        if hold.lease is not None:
            self._cache.give_back(hold.lease)

    def _fail(self, node_id: str, error: BaseException) -> None:
        if node_id in self._holds:
            self._let_go(node_id, None)
        if isinstance(error, Cancelled):
            self._cancel.set()
            return
        title = self._workflow[node_id].title or self._order[node_id].type.name
        if isinstance(error, GraphFlowError):
            found = [Problem(p.code, p.message, node_id, title, p.input, p.hint) for p in error.problems]
        else:
            found = [Problem("node_failed", f"{type(error).__name__}: {error}", node_id, title, hint=_advice(error))]
        for problem in found:
            self.problems.append(problem)
            self._emit(NodeError(node_id, problem.to_json()))


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    entry: Entry | None


def _advice(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "use a smaller width, height or batch_size"
    return None
