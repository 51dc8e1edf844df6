"""The run: what is ready runs, what is cached is skipped, a failure stops only what depends on it.

One scheduler for all callers. It lives in the calling thread and owns all state; workers only call node functions and
report back through one queue. When a single blocking node is ready and nothing is in flight, it is called in place:
there is nothing to overlap with, and a chain of small nodes then costs microseconds a node.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any

from .cache import Entry, MemoryCache
from .context import Context
from .events import Event, NodeCached, NodeDone, NodeError, NodeStarted, RunStarted
from .node import Lazy, NotComputed, Ui
from .plan import plan
from .problem import Cancelled, GraphFlowError, Problem
from .settings import Settings
from .validate import Bound
from .workflow import Workflow

__all__ = ["Run"]


class Run:
    """One execution of a bound workflow. After `execute()`: `entries`, `timings`, `cached`, `problems`."""

    def __init__(
        self,
        workflow: Workflow,
        order: Mapping[str, Bound],
        recipes: Mapping[str, bytes],
        cache: MemoryCache,
        settings: Settings,
        emit: Callable[[Event], None],
        cancel: Flag,
        workers: int,
        claims: Path | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> None:
        self._claims, self._extra_pnginfo = claims, extra_pnginfo
        self._workflow, self._order, self._recipes = workflow, order, recipes
        self._cache, self._settings, self._emit, self._cancel = cache, settings, emit, cancel
        self._entries: dict[str, Entry] = {}
        self._waiting: dict[str, int] = {}
        self._users: dict[str, list[str]] = {}
        self._uses: dict[str, int] = {}
        self._asked: dict[str, set[str]] = {}
        self._ready: deque[str] = deque()
        self._busy_lanes: set[str] = set()
        self._flying = 0
        self._done: SimpleQueue[tuple[str, Any, BaseException | None, float]] = SimpleQueue()
        self._threads = _Workers(workers, self._done)
        self.results: dict[str, Entry] = {}
        self.timings: dict[str, float] = {}
        self.cached: list[str] = []
        self.problems: list[Problem] = []

    def execute(self, wanted: Iterable[str]) -> None:
        """Run until all wanted nodes are done or cannot be. Raises Cancelled."""
        wanted = list(wanted)
        self._wanted = frozenset(wanted)
        try:
            self._add(wanted, first=True)
            self._loop()
        finally:
            self._threads.close()

    def _add(self, wanted: Iterable[str], first: bool = False) -> None:
        """Plan these nodes and what they need, and let what can start be ready."""
        todo = plan(self._order, wanted, self._is_known)
        if first:
            self._emit(RunStarted(tuple(todo.graph), todo.cached))
        for node_id in todo.cached:
            if node_id not in self.timings:
                entry = self._entries[node_id]
                self.cached.append(node_id)
                self._emit(NodeCached(node_id, entry.ui))
                if node_id in self._wanted:
                    self.results[node_id] = entry
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

    def _is_known(self, node_id: str) -> bool:
        if node_id in self._entries:
            return True
        kind = self._order[node_id].type
        entry = self._cache.get(self._recipes[node_id])
        if entry is None or (kind.still_valid and not kind.still_valid(self._settings, entry.ui)):
            return False
        self._entries[node_id] = entry
        return True

    def _loop(self) -> None:
        while self._ready or self._flying:
            if self._cancel.is_set():
                self._drain()
                raise Cancelled()
            if len(self._ready) == 1 and not self._flying and not self._order[self._ready[0]].type.is_async:
                node_id = self._ready.popleft()
                self._emit(NodeStarted(node_id))
                call = self._call(node_id)
                began = time.perf_counter()
                value, error = _protected(call)
                self._finish(node_id, value, error, time.perf_counter() - began)
                continue
            self._dispatch()
            try:
                node_id, value, error, seconds = self._done.get(timeout=0.1)
            except Empty:
                continue
            self._flying -= 1
            self._busy_lanes.discard(self._order[node_id].type.lane or "")
            self._finish(node_id, value, error, seconds)

    def _dispatch(self) -> None:
        """Hand all ready nodes to workers, but at most one of each lane at a time."""
        held: list[str] = []
        while self._ready:
            node_id = self._ready.popleft()
            kind = self._order[node_id].type
            if kind.lane is not None:
                if kind.lane in self._busy_lanes:
                    held.append(node_id)
                    continue
                self._busy_lanes.add(kind.lane)
            self._flying += 1
            self._emit(NodeStarted(node_id))
            self._threads.start(node_id, self._call(node_id), kind.is_async)
        self._ready.extend(held)

    def _drain(self) -> None:
        """Wait for what is in flight: nodes see the cancellation at their next step."""
        while self._flying:
            node_id, value, error, seconds = self._done.get()
            self._flying -= 1
            if error is None:
                self._finish(node_id, value, None, seconds)

    def _call(self, node_id: str) -> Callable[[], Any]:
        node = self._order[node_id]
        kind = node.type
        values = dict(node.literals)
        asked = self._asked.get(node_id, ())
        for name, link in node.links.items():
            if name not in kind.lazy or name in asked:
                values[name] = self._entries[link.node].outputs[link.slot]
        for name in kind.lazy:
            if name in values:
                values[name] = Lazy(name, values[name], known=True)
            elif name in node.links:
                values[name] = Lazy(name)
        if kind.context is not None:
            values[kind.context] = Context(
                node_id,
                self._settings,
                self._workflow.to_json,
                self._emit,
                self._cancel,
                self._claims,
                self._extra_pnginfo,
            )
        if kind.settings is not None:
            values[kind.settings] = self._settings
        return lambda: kind.function(**values)

    def _finish(self, node_id: str, value: Any, error: BaseException | None, seconds: float) -> None:
        if isinstance(error, NotComputed):
            link = self._order[node_id].links[error.name]
            self._asked.setdefault(node_id, set()).add(error.name)
            self._add([link.node])
            if link.node in self._entries:
                self._ready.append(node_id)
            else:
                self._waiting[node_id] = 1
                self._users.setdefault(link.node, []).append(node_id)
            return
        if error is None:
            try:
                entry = self._entry(node_id, value)
            except TypeError as wrong:
                error = wrong
        if error is not None:
            self._fail(node_id, error)
            return
        self.timings[node_id] = self.timings.get(node_id, 0.0) + seconds
        self._entries[node_id] = entry
        self._cache.put(self._recipes[node_id], entry)
        if node_id in self._wanted:
            self.results[node_id] = entry
        self._emit(NodeDone(node_id, seconds, entry.ui))
        for user in self._users.pop(node_id, ()):
            self._waiting[user] -= 1
            if self._waiting[user] == 0:
                self._ready.append(user)
        self._release(node_id)

    def _release(self, node_id: str) -> None:
        """Forget values that nothing planned needs any more; the cache has its own hold on them."""
        for link in self._order[node_id].links.values():
            self._uses[link.node] -= 1
            if self._uses[link.node] == 0 and not self._has_lazy_users:
                self._entries.pop(link.node, None)

    @property
    def _has_lazy_users(self) -> bool:
        return bool(self._asked)

    def _entry(self, node_id: str, value: Any) -> Entry:
        kind = self._order[node_id].type
        ui = None
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
        return Entry(outputs, ui)

    def _fail(self, node_id: str, error: BaseException) -> None:
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


def _advice(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "use a smaller width, height or batch_size"
    return None


def _protected(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Whatever a node does, `sys.exit` included, is an answer of that node and ends nothing else."""
    try:
        return call(), None
    except (Exception, SystemExit) as error:
        return None, error


class _Workers:
    """Threads for blocking nodes and one event loop for async ones; both start when first needed."""

    def __init__(self, count: int, done: SimpleQueue[Any]) -> None:
        self._count, self._done = count, done
        self._pool: ThreadPoolExecutor | None = None
        self._aio: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def start(self, node_id: str, call: Callable[[], Any], is_async: bool) -> None:
        if is_async:
            asyncio.run_coroutine_threadsafe(self._await(node_id, call), self._event_loop())
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="graphflow")
        self._pool.submit(self._work, node_id, call)

    def _work(self, node_id: str, call: Callable[[], Any]) -> None:
        began = time.perf_counter()
        value, error = _protected(call)
        self._done.put((node_id, value, error, time.perf_counter() - began))

    async def _await(self, node_id: str, call: Callable[[], Any]) -> None:
        began = time.perf_counter()
        value, error = None, None
        try:
            value = await call()
        except (Exception, SystemExit) as raised:
            error = raised
        self._done.put((node_id, value, error, time.perf_counter() - began))

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._aio is None:
            self._aio = asyncio.new_event_loop()
            self._thread = Thread(target=self._aio.run_forever, name="graphflow-async", daemon=True)
            self._thread.start()
        return self._aio

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if self._aio is not None and self._thread is not None:
            self._aio.call_soon_threadsafe(self._aio.stop)
            self._thread.join()
            self._aio.close()
