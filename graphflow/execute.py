"""The run: what is ready runs, what is cached is skipped, a failure stops only what depends on it.

One scheduler for all callers. It lives in the calling thread and owns all state; workers only call node functions and
report back through one queue. When a single blocking node is ready and nothing is in flight, it is called in place:
there is nothing to overlap with, and a chain of small nodes then costs microseconds a node.

A node that expands waits for the nodes that it brought, as any node waits for its inputs; then its outputs are put
together. So a loop of a thousand rounds is a thousand nodes in a row, not a thousand nested calls.
"""

from __future__ import annotations

import asyncio
import time
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any, NamedTuple, Protocol

from .cache import Brought, Cache, Checkpoint, Entry, Lease, Origin
from .calls import Answer, answer, blocked, join, merge_ui, spread
from .context import Context
from .events import Event, NodeBlocked, NodeCached, NodeDone, NodeError, NodeStarted, RunStarted
from .expand import unfold
from .fingerprint import Fingerprint, content_key, fingerprints, is_current
from .inputs import Lazy, NotComputed
from .lanes import Lanes
from .node import NodeType
from .plan import Known, Plan, ancestors, plan, stood_on
from .problem import Cancelled, GraphFlowError, Problem
from .settings import Settings
from .validate import Bound
from .values import Blocked, Encoded, Items, share
from .workers import Workers, protected
from .workflow import Link, Node, Workflow

__all__ = ["Piece", "Run", "Supply", "Surroundings"]

POLL = 0.05
"""Seconds between two looks at a lease that another process holds."""
MOST_EXPANDED = 1_000_000
"""Nodes that the expansions of one run may bring: a loop that never ends is told, before the memory is full."""


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
    types: Mapping[str, NodeType] | None = None
    """The node types that expansions may bring."""
    supply: Supply | None = None
    """Where the nodes come from, if not all at once."""


class Piece(NamedTuple):
    """A part of a plan: nodes in topological order with all that they stand on, and which of them are wanted."""

    order: Mapping[str, Bound]
    prints: Mapping[str, Fingerprint]
    wanted: Iterable[str]


class Supply(Protocol):
    """A plan that a run takes piece by piece, so that it works on one part of many alike variants at a time."""

    uses: dict[str, int]
    """How many nodes that have not been taken yet are linked to a node: until then it is not forgotten."""

    def next(self) -> Piece | None:
        """The next piece if it is time for one. Asked after each node; must give one if none is under way."""

    def done(self, node_id: str, entry: Entry) -> None:
        """A wanted node has been computed, or was known."""

    def document(self, node_id: str) -> Callable[[], dict[str, Any]]:
        """What makes the JSON of the workflow that the node is told to be part of."""


@dataclass(slots=True)
class _Hold:
    """The right to compute a recipe, taken once, kept until the node is done or has failed."""

    recipe: bytes
    key: bytes | None = None
    lease: Lease | None = None
    elsewhere: bool = False
    """Another run of this process computes it, and this one waits."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """One for each of its calls."""


class _Made(NamedTuple):
    """What all calls of a node gave, as the cache keeps it."""

    entry: Entry
    encoded: tuple[Encoded, ...] | None
    stops: list[Blocked]
    """What blocked some of the calls."""


@dataclass(slots=True)
class _Unfolding:
    """A node that waits for the nodes that it expanded into."""

    answers: list[Answer]
    seconds: float
    brought: set[Brought]
    """What the new nodes are."""
    nodes: tuple[str, ...]


class Run:
    """One execution of a bound workflow. After `execute()`: `results`, `timings`, `cached`, `problems`."""

    def __init__(
        self,
        workflow: Mapping[str, Node],
        order: Mapping[str, Bound],
        prints: Mapping[str, Fingerprint],
        around: Surroundings,
    ) -> None:
        self._workflow, self._around = workflow, around
        self._order, self._prints = dict(order), dict(prints)
        self._cache, self._emit, self._cancel = around.cache, around.emit, around.cancel
        self._supply = around.supply
        self._wanted: set[str] = set()
        self._entries: dict[str, Entry] = {}
        self._waiting: dict[str, int] = {}
        """Nodes that are planned and not done yet -> how many others they wait for."""
        self._users: dict[str, list[str]] = {}
        self._uses: dict[str, int] = {}
        self._asked: dict[str, set[str]] = {}
        """Lazy inputs that a node has asked for."""
        self._keep_all = False
        """Values may be asked for late, so none is forgotten while the run lasts."""
        self._handles: set[str] = set()
        self._holds: dict[str, _Hold] = {}
        self._leased_elsewhere: list[str] = []
        self._ready: deque[str] = deque()
        self._in_lanes: dict[str, list[NodeType]] = {}
        """The types of the nodes that are in each lane, or about to enter it."""
        self._flying = 0
        self._done: SimpleQueue[tuple[str, Any, BaseException | None, float]] = SimpleQueue()
        self._workers = Workers(around.workers, around.settings.together, self._done)
        # What expansions bring.
        self._added: dict[str, Node] = {}
        self._parents: dict[str, str] = {}
        self._visible: dict[str, str] = {}
        self._unfolding: dict[str, _Unfolding] = {}
        self._effects: set[str] = set()
        """Nodes whose expansions hold output nodes, or nodes that look at the world outside: not cached as a whole, or
        the effects would be skipped, the changes not be seen."""
        self.results: dict[str, Entry] = {}
        self.timings: dict[str, float] = {}
        self.cached: dict[str, None] = {}
        self.problems: list[Problem] = []

    def execute(self, wanted: Iterable[str]) -> None:
        """Run until all wanted nodes are done or cannot be. Raises Cancelled."""
        wanted = list(wanted)
        self._wanted = set(wanted)
        try:
            planned = plan(self._order, wanted, self._ask)
            running = tuple(node_id for node_id in planned.graph if node_id not in planned.handles)
            cached = stood_on(self._order, wanted, planned)
            self._emit(RunStarted(running, cached))
            for node_id in cached:
                self._note_cached(node_id, "stored")
            self._schedule(planned)
            self._loop()
            if self._cancel.is_set() and not self._wanted <= self.results.keys():
                raise Cancelled()  # seen by the last node that was in flight, so that nothing was left to loop over
            stuck = [node_id for node_id in self._waiting if not self.problems]
            if stuck:
                text = ", ".join(self._title(node_id) for node_id in stuck[:8])
                self.problems.append(Problem("cycle", f"these nodes wait for each other: {text}"))
        finally:
            self._workers.close()
            for node_id in list(self._holds):
                self._let_go(node_id, None)

    # -- planning ---------------------------------------------------------------------------------------------------

    def _add(self, wanted: Iterable[str]) -> None:
        """Plan more nodes and what they need, and let what can start be ready."""
        planned = plan(self._order, wanted, self._ask)
        for node_id in planned.known | planned.handles:
            if node_id not in self.timings and node_id not in self.cached:
                self._note_cached(node_id, "stored")
        self._schedule(planned)

    def _take_in(self, piece: Piece) -> None:
        self._order.update(piece.order)
        self._prints.update(piece.prints)
        self._wanted.update(piece.wanted)
        self._add(piece.wanted)
        for node_id in piece.wanted:
            if node_id in self._wanted and node_id in self._entries:
                self._note_result(node_id)

    def _schedule(self, planned: Plan) -> None:
        self._handles |= planned.handles
        order, waiting, users, uses = self._order, self._waiting, self._users, self._uses
        graph = planned.graph
        for node_id in graph:
            if node_id in waiting:
                continue
            node = order[node_id]
            if node.lazy or node.type.expands:
                self._keep_all = True
            sources = graph.pred[node_id]
            waiting[node_id] = len(sources)
            for source in sources:
                users.setdefault(source, []).append(node_id)
            for link in node.links.values():
                uses[link.node] = uses.get(link.node, 0) + 1
                if self._supply is not None and link.node in self._supply.uses:
                    self._supply.uses[link.node] -= 1
            if not sources:
                self._ready.append(node_id)

    def _ask(self, node_id: str) -> Known:
        if node_id in self._entries:
            return Known.YES
        if self._around.refresh and node_id not in self.timings:
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
        kind, around = self._order[node_id].type, self._around
        if not all(is_current(part, around.types or {}, around.settings) for part in entry.brought):
            return False
        return kind.still_valid is None or kind.still_valid(around.settings, entry.ui)

    def _note_cached(self, node_id: str, reason: str) -> None:
        entry = self._entries.get(node_id)
        self.cached[node_id] = None
        self._cache.touch(self._prints[node_id].recipe)
        self._emit(NodeCached(node_id, entry.ui if entry is not None else None, reason, self._display(node_id)))
        if node_id in self._wanted and entry is not None:
            self._note_result(node_id)

    def _note_result(self, node_id: str) -> None:
        if self._supply is None:
            self.results[node_id] = self._entries[node_id]
        else:
            self._wanted.discard(node_id)
            self._supply.done(node_id, self._entries[node_id])

    def _display(self, node_id: str) -> str | None:
        """The node of the workflow that this one was made by."""
        return self._visible.get(node_id)

    def _title(self, node_id: str) -> str:
        visible = self._display(node_id) or node_id
        return self._workflow[visible].title or self._order[visible].type.name

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while self._has_more():
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
            if not self._flying and not self._leased_elsewhere:
                continue
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
                self._leave_lane(self._order[node_id].type)
                self._finish(node_id, value, error, seconds)

    def _has_more(self) -> bool:
        if self._supply is not None and not self._cancel.is_set():
            while (piece := self._supply.next()) is not None:
                self._take_in(piece)
        return bool(self._ready or self._flying or self._leased_elsewhere)

    def _dispatch(self) -> None:
        """Hand all ready nodes to workers, but for those whose lane has no room; in a lane nobody overtakes."""
        held: list[str] = []
        full: set[str | None] = set()
        while self._ready:
            node_id = self._ready.popleft()
            kind = self._order[node_id].type
            if kind.lane in full or not self._has_room(kind):
                full.add(kind.lane)
                held.append(node_id)
            elif self._prepare(node_id):
                self._launch(node_id)
        self._ready.extend(held)

    def _has_room(self, kind: NodeType) -> bool:
        inside = self._in_lanes.get(kind.lane) if kind.lane is not None else None
        return not inside or (kind.together and inside[0] is kind and len(inside) < self._around.settings.together)

    def _leave_lane(self, kind: NodeType) -> None:
        if kind.lane is not None:
            self._in_lanes[kind.lane].remove(kind)

    def _launch(self, node_id: str) -> None:
        kind = self._order[node_id].type
        if kind.lane is not None:
            self._in_lanes.setdefault(kind.lane, []).append(kind)
        self._flying += 1
        self._workers.start(node_id, self._work(node_id), kind.is_async, kind.together)

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
        """Whether to call the node: not if its key is known, its inputs are blocked, or somebody else is at the same."""
        if node_id in self._unfolding:
            self._fold(node_id)
            return False
        if node_id in self._handles or node_id in self._holds:
            return True
        if self._is_blocked(node_id):
            return False
        around, mine = self._around, self._prints[node_id]
        if not self._cache.is_on:
            self._holds[node_id] = _Hold(mine.recipe)
            self._emit(NodeStarted(node_id, self._display(node_id)))
            return True
        key = content_key(mine, self._order[node_id], self._content)
        # A recipe that will never be seen again is no name to keep a result under; that of its contents may be.
        recipe = mine.recipe if key is None or not mine.is_volatile else key
        if key is not None and not around.refresh:
            same = self._cache.find(key)
            if same is not None and same.outputs is not None and self._still_valid(node_id, same):
                if not mine.is_volatile:
                    self._cache.put_again(recipe, key, same, self._origin(node_id))
                self._finish_known(node_id, same, "same content")
                return False
        flying = self._cache.begin(recipe)
        if flying is not None:
            self._flying += 1
            self._holds[node_id] = _Hold(recipe, elsewhere=True)
            flying.add_done_callback(lambda future: self._report_elsewhere(node_id, future))
            return False
        ours, lease = self._cache.lease(recipe)
        if not ours:
            self._cache.end(recipe, None)
            self._leased_elsewhere.append(node_id)
            return False
        self._holds[node_id] = _Hold(recipe, key, lease)
        if not around.refresh:
            entry = self._cache.get(recipe)  # another run may have finished between the planning and now
            if entry is not None and entry.outputs is not None and self._still_valid(node_id, entry):
                self._let_go(node_id, entry)
                self._finish_known(node_id, entry, "shared")
                return False
        self._emit(NodeStarted(node_id, self._display(node_id)))
        return True

    def _is_of_use(self, node_id: str) -> bool:
        """Whether another run could ever need the result."""
        hold = self._holds[node_id]
        return hold.key is not None or not self._prints[node_id].is_volatile

    def _report_elsewhere(self, node_id: str, future: Future[Entry | None]) -> None:
        self._done.put((node_id, _Elsewhere(future.result()), None, 0.0))

    def _content(self, node_id: str, slot: int) -> bytes | None:
        entry = self._entries.get(node_id)
        return entry.contents[slot] if entry is not None and slot < len(entry.contents) else None

    def _origin(self, node_id: str) -> Origin:
        node, mine = self._order[node_id], self._prints[node_id]
        links = {name: (self._prints[link.node].recipe, link.slot) for name, link in node.links.items()}
        return Origin(node.type.name, mine.version, node.literals, links, mine.outside, mine.environment, node_id)

    def _is_blocked(self, node_id: str) -> bool:
        """If every call of the node is blocked, it is done: its outputs are blocked, too."""
        node = self._order[node_id]
        for name, link in node.links.items():
            if name not in node.lazy or name in self._asked.get(node_id, ()):
                outputs = self._entries[link.node].outputs
                if outputs is not None and type(outputs[link.slot]) in (Blocked, Items):
                    break
        else:
            return False
        calls = spread(self._values(node_id), node.every)
        stops = [blocked(call, node.every) for call in calls]
        if not calls or not all(stops):
            return False
        self._tell_blocked(node_id, [stop for stop in stops if stop is not None])
        self._emit(NodeBlocked(node_id, self._display(node_id)))
        outputs = (Blocked(),) * len(node.type.outputs)
        self._entries[node_id] = Entry(outputs, (None,) * len(outputs))
        self._tell_users(node_id)
        return True

    def _tell_blocked(self, node_id: str, stops: list[Blocked]) -> None:
        for message in dict.fromkeys(stop.message for stop in stops if stop.message is not None):
            self._report(node_id, [Problem("blocked", message)])

    def _values(self, node_id: str) -> dict[str, Any]:
        """Literals, and the values of links that have been computed."""
        node = self._order[node_id]
        values = dict(node.literals)
        asked = self._asked.get(node_id, ())
        for name, link in node.links.items():
            if name not in node.lazy or name in asked:
                outputs = self._entries[link.node].outputs
                assert outputs is not None
                values[name] = outputs[link.slot]
        return values

    def _work(self, node_id: str) -> Callable[[], Any]:
        """What a worker does: make the node's calls in its lane, and an entry of what they give."""
        node, around = self._order[node_id], self._around
        kind = node.type
        calls = spread(self._values(node_id), node.every)
        stops = [blocked(call, node.every) for call in calls]
        ready = [
            stop or self._arguments(node_id, call, index, len(calls))
            for index, (call, stop) in enumerate(zip(calls, stops, strict=True))
        ]
        if kind.is_async:

            async def await_all() -> list[Answer]:
                return list(await asyncio.gather(*(_await(kind, arguments) for arguments in ready)))

            return await_all

        def work() -> Any:
            most = around.settings.together if kind.together else 1
            with around.lanes.enter(kind.lane, around.cancel, kind.name, most):
                began = time.perf_counter()
                answers = [
                    _stopped(kind, each) if isinstance(each, Blocked) else answer(kind, kind.function(**each))
                    for each in ready
                ]
                seconds = time.perf_counter() - began
            return answers if _is_open(answers) else self._entry(node_id, answers, seconds)

        return work

    def _arguments(self, node_id: str, call: dict[str, Any], index: int, count: int) -> dict[str, Any]:
        """What one call of the function gets; its own copies of everything."""
        node, around = self._order[node_id], self._around
        kind = node.type
        values = {name: share(value) for name, value in call.items()}
        for name in node.lazy:
            if name in values:
                values[name] = Lazy(name, values[name], known=True)
            elif name in node.links:
                link = node.links[name]
                raw = node.inputs[name].raw
                values[name] = [link.node, link.slot] if raw else Lazy(name)
        values = kind.arguments(values)
        if kind.context is not None:
            hold = self._holds.get(node_id)
            checkpoint = None
            if hold is not None and self._cache.is_on and self._is_of_use(node_id):
                place = hold.recipe if count == 1 else blake2b(b"%d;" % index + hold.recipe, digest_size=16).digest()
                checkpoint = self._cache.checkpoint(place, around.settings.checkpoint_every, around.refresh)
                if checkpoint is not None:
                    hold.checkpoints += (checkpoint,)
            values[kind.context] = Context(
                node_id, around.settings, self._document(node_id), self._emit, self._cancel, around.claims,
                around.extra_pnginfo, checkpoint, call=index, display=self._display(node_id),
                graph=ChainMap(self._added, self._workflow),  # type: ignore[arg-type]
            )  # fmt: skip
        if kind.settings is not None:
            values[kind.settings] = around.settings
        return values

    def _document(self, node_id: str) -> Callable[[], dict[str, Any]]:
        if self._supply is not None:
            return self._supply.document(self._display(node_id) or node_id)
        assert isinstance(self._workflow, Workflow)
        return self._workflow.to_json

    def _entry(self, node_id: str, answers: list[Answer], seconds: float, brought: tuple[Brought, ...] = ()) -> _Made:
        kind = self._order[node_id].type
        outputs = join(kind, answers, self._resolve)
        ui = merge_ui(answers)
        stops = [one.blocked for one in answers if one.blocked is not None]
        if not self._cache.is_on:
            return _Made(Entry(outputs, (None,) * len(outputs), ui, seconds), None, stops)
        return _Made(*self._cache.make(outputs, ui, seconds, brought), stops)

    def _resolve(self, link: Link) -> Any:
        outputs = self._entries[link.node].outputs
        assert outputs is not None
        return outputs[link.slot]

    # -- expansion --------------------------------------------------------------------------------------------------

    def _unfold(self, node_id: str, answers: list[Answer], seconds: float) -> None:
        """Take the nodes that the calls brought into the run, and wait for those that the outputs need."""
        around = self._around
        graph = ChainMap(self._added, self._workflow)  # type: ignore[arg-type]
        found = unfold(node_id, answers, graph, self._order, around.types or {}, around.settings)
        prints = fingerprints(found.order, around.settings, self._prints)
        self._refuse_endless(node_id, prints)
        self._added.update(found.nodes)
        self._order.update(found.order)
        self._prints.update(prints)
        visible = self._visible.get(node_id, node_id)
        for key in found.nodes:
            self._parents[key], self._visible[key] = node_id, visible
        needed = {
            value.node for one in found.answers if one.expansion is not None
            for value in one.outputs if isinstance(value, Link)
        }  # fmt: skip
        effects = [key for key, item in found.order.items() if item.type.is_output]
        if effects or self._looks_outside(node_id, found.order, prints):
            self._mark_effects(node_id)
        brought = {
            Brought(item.type.name, prints[key].version, prints[key].environment) for key, item in found.order.items()
        }
        self._unfolding[node_id] = _Unfolding(found.answers, seconds, brought, tuple(found.order))
        self._wait_for(node_id, [*needed, *(key for key in effects if key not in needed)])

    def _refuse_endless(self, node_id: str, prints: Mapping[str, Fingerprint]) -> None:
        if len(self._added) + len(prints) > MOST_EXPANDED:
            raise GraphFlowError([Problem("endless", f"expansions have brought more than {MOST_EXPANDED} nodes",
                                          hint="a loop needs a condition that ends it")])  # fmt: skip
        new = {print_.recipe for print_ in prints.values()}
        if (
            new.isdisjoint(self._prints[key].recipe for key in self._unfolding)
            and self._prints[node_id].recipe not in new
        ):
            return
        ancestor: str | None = node_id
        while ancestor is not None:
            if self._prints[ancestor].recipe in new:
                raise GraphFlowError([Problem("endless", "the node expands into itself, with the same inputs",
                                              hint="a loop has to change something from round to round")])  # fmt: skip
            ancestor = self._parents.get(ancestor)

    def _looks_outside(self, node_id: str, order: Mapping[str, Bound], prints: Mapping[str, Fingerprint]) -> bool:
        """Whether the recipe of the node does not say all that its expansion depends on."""
        if any(mine.is_new or mine.outside is not None for mine in prints.values()):
            return True
        linked = {link.node for item in order.values() for link in item.links.values()} - order.keys()
        linked -= {link.node for link in self._order[node_id].links.values()}
        return bool(linked) and not linked <= ancestors(self._order, node_id)

    def _mark_effects(self, node_id: str) -> None:
        ancestor: str | None = node_id
        while ancestor is not None and ancestor not in self._effects:
            self._effects.add(ancestor)
            ancestor = self._parents.get(ancestor)

    def _wait_for(self, node_id: str, sources: list[str]) -> None:
        self._add(sources)
        missing = [source for source in sources if source not in self._entries]
        for source in missing:
            self._users.setdefault(source, []).append(node_id)
        self._waiting[node_id] = len(missing)
        if not missing:
            self._ready.append(node_id)

    def _fold(self, node_id: str) -> None:
        """All that the expansion's outputs need is there: put them together."""
        unfolding = self._unfolding.pop(node_id)
        inner = [self._entries[key].brought for key in unfolding.nodes if key in self._entries]
        brought = tuple(sorted(unfolding.brought.union(*inner), key=_name))
        found, error = protected(lambda: self._entry(node_id, unfolding.answers, unfolding.seconds, brought))
        if error is not None:
            self._fail(node_id, error)
        else:
            self._complete(node_id, found, unfolding.seconds)

    # -- the end of a node ------------------------------------------------------------------------------------------

    def _finish(self, node_id: str, value: Any, error: BaseException | None, seconds: float) -> None:
        if isinstance(error, NotComputed):
            self._wait_for_lazy(node_id, error.names)
            return
        if error is None and isinstance(value, list):  # an async node, or one that expands
            try:
                if _is_open(value):
                    self._unfold(node_id, value, seconds)
                    return
                value = self._entry(node_id, value, seconds)
            except Exception as wrong:
                error = wrong
        if error is not None:
            self._fail(node_id, error)
        else:
            self._complete(node_id, value, seconds)

    def _complete(self, node_id: str, made: _Made, seconds: float) -> None:
        entry, encoded, stops = made
        if stops:
            self._tell_blocked(node_id, stops)
        if node_id in self._handles:
            self._entries[node_id] = entry
            self._cache.memory.put(self._prints[node_id].recipe, entry)
        else:
            self.timings[node_id] = self.timings.get(node_id, 0.0) + seconds
            hold = self._holds[node_id]
            if stops or node_id in self._effects or not self._is_of_use(node_id):
                self._let_go(node_id, None)
            else:
                del self._holds[node_id]
                if self._cache.is_on:
                    self._cache.put(hold.recipe, hold.key, entry, encoded, self._origin(node_id), hold.lease)
                    self._cache.end(hold.recipe, entry)
            for checkpoint in hold.checkpoints:
                checkpoint.drop()
            self._entries[node_id] = entry
            self._emit(NodeDone(node_id, seconds, entry.ui, self._display(node_id)))
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
        del self._waiting[node_id]
        if node_id in self._wanted:
            self._note_result(node_id)
        for user in self._users.pop(node_id, ()):
            self._waiting[user] -= 1
            if self._waiting[user] == 0:
                self._ready.append(user)
        # Forget values that nothing planned needs any more; the cache has its own hold on them.
        if not self._keep_all:
            for link in self._order[node_id].links.values():
                self._uses[link.node] -= 1
                if self._uses[link.node] == 0 and not (self._supply and self._supply.uses.get(link.node)):
                    self._entries.pop(link.node, None)

    def _wait_for_lazy(self, node_id: str, names: Iterable[str]) -> None:
        links = self._order[node_id].links
        self._asked.setdefault(node_id, set()).update(names)
        self._wait_for(node_id, list({links[name].node for name in names}))

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
        elif isinstance(error, GraphFlowError):
            self._report(node_id, error.problems)
        else:
            found = Problem("node_failed", f"{type(error).__name__}: {error}", hint=_advice(error))
            self._report(node_id, [found])

    def _report(self, node_id: str, problems: Iterable[Problem]) -> None:
        """Say what is wrong under the node that stands in the workflow."""
        visible = self._display(node_id)
        inside = f"in {self._order[node_id].type.name}, which it expanded into: " if visible is not None else ""
        for problem in problems:
            told = Problem(problem.code, inside + problem.message, visible or node_id, self._title(node_id), problem.input,
                           problem.hint)  # fmt: skip
            self.problems.append(told)
            self._emit(NodeError(node_id, told.to_json(), visible))


def _name(part: Brought) -> str:
    return part.type


async def _await(kind: NodeType, arguments: dict[str, Any] | Blocked) -> Answer:
    return (
        _stopped(kind, arguments) if isinstance(arguments, Blocked) else answer(kind, await kind.function(**arguments))
    )


def _stopped(kind: NodeType, stop: Blocked) -> Answer:
    return Answer((Blocked(),) * len(kind.outputs), blocked=stop)


def _is_open(answers: list[Answer]) -> bool:
    return any(one.expansion is not None for one in answers)


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    entry: Entry | None


def _advice(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "use a smaller width, height or batch_size"
    return None
