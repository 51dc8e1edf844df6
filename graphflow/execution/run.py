"""The run: what is ready runs, what is cached is skipped, a failure stops only what depends on it.

One scheduler for all callers. It lives in the calling thread and owns all state; workers only call node functions and
report back through one queue. When a single blocking node is ready and nothing is in flight, it is called in place:
there is nothing to overlap with, and a chain of small nodes then costs microseconds a node.

A node that expands waits for the nodes that it brought, as any node waits for its inputs; then its outputs are put
together. So a loop of a thousand rounds is a thousand nodes in a row, not a thousand nested calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from ..cache import CacheEntry, Origin
from ..check.validate import Bound
from ..document.workflow import Node, Workflow
from ..events import NodeAnew, NodeBlocked, NodeCached, NodeDone, NodeStarted, RunStarted
from ..nodetype.inputs import NotComputed
from ..plan.bulk import in_bulk
from ..plan.fingerprint import Fingerprint, answered, content_key, why_not
from ..plan.plan import Known, Plan, plan, stood_on
from ..problem import Cancelled, Problem
from ..values import Blocked
from .agenda import Agenda
from .anew import SmallerPasses
from .behind import known_behind
from .call import Spent
from .calling import Caller, NodeOutcome, has_expansion
from .claims import Claims, InOtherProcess, InOtherRun, KnownResult
from .context import Piece, RunContext
from .elsewhere import AT_ONCE, is_for_others
from .expansions import Expansions
from .flight import Flight, SharedOutcome
from .reports import Reports
from .workers import protected

__all__ = ["Run"]

POLL = 0.05
"""Seconds between two looks at a lease that another process holds."""


class Run:
    """One execution of a bound workflow. After `execute()`: `results`, `timings`, `loading`, `cached`, `problems`."""

    def __init__(
        self,
        workflow: Mapping[str, Node],
        order: Mapping[str, Bound],
        prints: Mapping[str, Fingerprint],
        context: RunContext,
    ) -> None:
        self._workflow, self._context, self._prints = workflow, context, dict(prints)
        self._cache, self._emit, self._cancel, self._supply = (
            context.cache,
            context.emit,
            context.cancel,
            context.supply,
        )
        self._agenda = Agenda(order, context.supply.uses if context.supply is not None else {})
        self._claims = Claims(context.cache, context.refresh)
        self._expansions = Expansions(workflow, self._agenda, self._prints, context.types, context.settings)
        self._smaller = SmallerPasses(context.settings, self._agenda.order, self._prints, self._is_done)
        self._caller = Caller(
            run=context,
            agenda=self._agenda,
            claims=self._claims,
            expansions=self._expansions,
            prints=self._prints,
            smaller=self._smaller,
            document=_documents(workflow, context, self._expansions),
        )
        self._wanted: set[str] = set()
        self._outside: set[str] = set()
        """Nodes that are, or stand on, expansions which look at the world outside, or readers of what changed before
        they read it: the recipes do not hold enough."""
        self._in_other_processes: list[str] = []
        self._flight = Flight(
            workers=context.workers if context.other is None else max(context.workers, AT_ONCE),
            settings=context.settings,
            is_elsewhere=lambda kind: context.other is not None and is_for_others(kind),
        )
        self._reports = Reports(workflow, self._agenda.order, self._expansions, context.emit)
        self.results: dict[str, CacheEntry] = {}
        self.timings: dict[str, float] = {}
        self.loading: dict[str, float] = {}
        self.cached: dict[str, None] = {}
        self.problems = self._reports.problems

    @property
    def cause(self) -> BaseException | None:
        """The first thing that a node raised."""
        return self._reports.cause

    def execute(self, wanted: Iterable[str]) -> None:
        """Run until all wanted nodes are done or cannot be. Raises Cancelled."""
        wanted = list(wanted)
        self._wanted = set(wanted)
        try:
            with in_bulk():
                started = self._begin(wanted)
            self._emit(started)
            for node_id in started.cached:
                self._note_cached(node_id, "stored")
            with self._context.imports:
                self._loop()
            if self._cancel.is_set() and not self._wanted <= self.results.keys():
                raise Cancelled()  # seen by the last node that was in flight, so that nothing was left to loop over
            stuck = self._agenda.unfinished if not self.problems else []
            if stuck:
                self._reports.stuck(stuck)
        finally:
            self._flight.close()
            self._claims.give_all_back()

    # -- planning ---------------------------------------------------------------------------------------------------

    def _begin(self, wanted: list[str]) -> RunStarted:
        """Plan and schedule what is wanted; the plan itself is of no use afterwards."""
        planned = plan(self._agenda.order, wanted, self._ask)
        running = tuple(node_id for node_id in planned.graph if node_id not in planned.handles)
        cached = stood_on(self._agenda.order, wanted, planned)
        self._schedule(planned)
        return RunStarted(running, cached)

    def _add(self, wanted: Iterable[str]) -> None:
        """Plan more nodes and what they need, and let what can start be ready."""
        planned = plan(self._agenda.order, wanted, self._ask)
        for node_id in planned.known | planned.handles:
            if node_id not in self.timings and node_id not in self.cached:
                self._note_cached(node_id, "stored")
        self._schedule(planned)

    def _schedule(self, planned: Plan) -> None:
        new = self._agenda.add(planned)
        if self._supply is not None:
            for node_id in new:
                for link in self._agenda.order[node_id].links.values():
                    if link.node in self._supply.uses:
                        self._supply.uses[link.node] -= 1

    def _take_in(self, piece: Piece) -> None:
        self._agenda.order.update(piece.order)
        self._prints.update(piece.prints)
        self._smaller.reprint()
        self._wanted.update(piece.wanted)
        self._add(piece.wanted)
        for node_id in piece.wanted:
            if node_id in self._wanted and node_id in self._agenda.entries:
                self._note_result(node_id)

    def _ask(self, node_id: str) -> Known:
        if node_id in self._agenda.entries:
            return Known.YES
        if self._context.refresh and node_id not in self.timings:
            return Known.NO
        recipe, is_for_nobody = self._prints[node_id].recipe, self._is_for_nobody(node_id)
        if is_for_nobody:
            entry = self._cache.peek(recipe)
            self._cache.touch(recipe)
        else:
            entry = self._cache.get(recipe)
        if entry is None or not self._still_valid(node_id, entry):
            return Known.NO
        if entry.outputs is None and self._agenda.order[node_id].type.outputs and not is_for_nobody:
            return Known.HANDLES
        self._agenda.entries[node_id] = entry
        return Known.YES

    def _is_for_nobody(self, node_id: str) -> bool:
        """Whether the node only passes inputs on, to no other node: its outputs need not be read."""
        outputs = self._agenda.order[node_id].type.outputs
        if not outputs or not all(output.is_passed_on for output in outputs) or self._supply is not None:
            return False
        return node_id not in self._linked

    @cached_property
    def _linked(self) -> frozenset[str]:
        return frozenset(link.node for node in self._agenda.order.values() for link in node.links.values())

    def _still_valid(self, node_id: str, entry: CacheEntry) -> bool:
        context = self._context
        return why_not(entry, self._agenda.order[node_id].type, context.types, context.settings) is None

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        ready = self._agenda.ready
        while self._has_more():
            if self._cancel.is_set():
                self._drain()
                raise Cancelled()
            if len(ready) == 1 and not self._flight and not self._in_other_processes:
                node_id = ready.popleft()
                if not self._prepare(node_id):
                    continue
                if not self._agenda.order[node_id].type.is_async:
                    work = self._caller.work(node_id)
                    began = time.perf_counter()
                    value, error = protected(work)
                    self._finish(node_id, value, error, time.perf_counter() - began)
                    continue
                self._launch(node_id)
            self._dispatch()
            if self._flight or self._in_other_processes:
                self._wait()

    def _has_more(self) -> bool:
        if self._supply is not None and not self._cancel.is_set():
            while (piece := self._supply.next()) is not None:
                self._take_in(piece)
        return bool(self._agenda.ready or self._flight or self._in_other_processes)

    def _wait(self) -> None:
        """For one node to come back, or for the time to look again at what other processes do."""
        outcome = self._flight.next(POLL if self._in_other_processes else 0.2)
        if outcome is None:
            self._agenda.ready.extend(self._in_other_processes)
            self._in_other_processes.clear()
        elif isinstance(outcome, SharedOutcome):
            self._finish_elsewhere(*outcome)
        else:
            self._finish(*outcome)

    def _dispatch(self) -> None:
        """Hand all ready nodes to workers, but for those whose lane has no room; in a lane nobody overtakes.

        Nodes that work together come last: what goes before them makes more of them ready, and what comes after them
        is a result. So all prompts are encoded before the first sampler starts, and the most samplers start at once.
        """
        ready, order = self._agenda.ready, self._agenda.order
        held: list[str] = []
        full: set[str | None] = set()
        while ready:  # what turns out to be known makes more of them ready
            batch = sorted(ready, key=lambda node_id: order[node_id].type.together)
            ready.clear()
            if self._context.settings.expected is not None:
                self._caller.expect(self._beginning(batch))
            for node_id in batch:
                kind = order[node_id].type
                if kind.lane in full or not self._flight.has_room(kind):
                    full.add(kind.lane)
                    held.append(node_id)
                elif self._prepare(node_id):
                    self._launch(node_id)
                    continue
                self._caller.expect_not(node_id)
        ready.extend(held)

    def _beginning(self, batch: list[str]) -> list[str]:
        """Those that work together and will start as one."""
        types = {node_id: self._agenda.order[node_id].type for node_id in batch}
        found = [node_id for node_id, kind in types.items() if kind.together and self._flight.has_room(kind)]
        return found[: self._context.settings.together]

    def _launch(self, node_id: str) -> None:
        self._flight.start(node_id, self._agenda.order[node_id].type, self._caller.work(node_id))

    def _drain(self) -> None:
        """Wait for what is in flight: nodes see the cancellation at their next step."""
        for outcome in self._flight.drain():
            if outcome.error is None:
                self._finish(*outcome)

    # -- the beginning of a node ------------------------------------------------------------------------------------

    def _prepare(self, node_id: str) -> bool:
        """Whether to call the node: not if its key is known, its inputs are blocked, or another run computes the
        same."""
        if node_id in self._expansions:
            self._fold(node_id)
            return False
        if node_id in self._agenda.handles or node_id in self._claims:
            return True
        stops = self._caller.stops(node_id)
        if stops is not None:
            self._finish_blocked(node_id, stops)
            return False
        mine, node = self._prints[node_id], self._agenda.order[node_id]
        if mine.asks_late and self._cache.is_on:
            mine = self._prints[node_id] = answered(mine, *self._caller.outside(node_id))
        key = content_key(mine, node, self._agenda.content) if self._cache.is_on else None
        answer = self._claims.take(
            node_id,
            mine,
            key,
            looked_outside=self._stands_on_outside(node_id),
            is_elsewhere=self._context.other is not None and is_for_others(node.type),
            origin=lambda: self._origin(node_id),
            is_valid=lambda entry: self._still_valid(node_id, entry),
        )
        if isinstance(answer, KnownResult):
            self._finish_known(node_id, answer.entry, answer.reason)
        elif isinstance(answer, InOtherRun):
            self._flight.await_other(node_id, answer.result)
        elif isinstance(answer, InOtherProcess):
            self._in_other_processes.append(node_id)
        else:
            self._emit(NodeStarted(node_id, self._expansions.display(node_id)))
            return True
        return False

    def _stands_on_outside(self, node_id: str) -> bool:
        if not self._outside:
            return False
        links = self._agenda.order[node_id].links.values()
        return any(link.node in self._outside for link in links)

    def _origin(self, node_id: str) -> Origin:
        node, mine = self._agenda.order[node_id], self._prints[node_id]
        links = {name: (self._prints[link.node].recipe, link.slot) for name, link in node.links.items()}
        name = node_id if self._supply is None else self._supply.name(node_id)
        return Origin(
            type=node.type.name,
            version=mine.version,
            literals=node.literals,
            links=links,
            outside=mine.outside,
            environment=mine.environment,
            node=name,
            reads=mine.reads or {},
        )

    def _wait_for(self, node_id: str, sources: list[str]) -> None:
        self._add(sources)
        self._agenda.wait_for(node_id, sources)

    # -- the end of a node ------------------------------------------------------------------------------------------

    def _finish(self, node_id: str, value: Any, error: BaseException | None, seconds: float) -> None:
        if isinstance(error, NotComputed):
            self._wait_for(node_id, list(self._agenda.ask(node_id, error.names)))
            return
        if error is None and isinstance(value, list):  # the answers of an async node, or of one that expands
            try:
                if has_expansion(value):
                    self._wait_for(node_id, self._expansions.open(node_id, value, seconds))
                    return
                value = self._caller.made(node_id, value, Spent(seconds))
            except Exception as wrong:
                error = wrong
        if error is not None:
            self._fail(node_id, error)
        else:
            self._complete(node_id, value)

    def _fold(self, node_id: str) -> None:
        """All that the expansion's outputs need is there: put them together."""
        found = self._expansions.close(node_id)
        brought = found.all_brought(self._agenda)
        made, error = protected(lambda: self._caller.made(node_id, found.answers, Spent(found.seconds), brought))
        if error is not None:
            self._fail(node_id, error)
        else:
            self._complete(node_id, made)

    def _complete(self, node_id: str, made: NodeOutcome) -> None:
        entry, encoded, stops, spent, is_true = made
        if stops:
            self._report_blocked(node_id, stops)
        if not is_true:
            self._outside.add(node_id)
        if node_id in self._agenda.handles:
            if is_true:
                self._cache.hold(self._prints[node_id].recipe, entry)
        else:
            self.timings[node_id] = self.timings.get(node_id, 0.0) + spent.own
            if spent.loading:
                self.loading[node_id] = self.loading.get(node_id, 0.0) + spent.loading
            # who takes it from the cache would not see the message
            is_quiet = not stops or all(stop.message is None for stop in stops)
            whole = is_true and is_quiet and not self._expansions.has_effects(node_id)
            self._claims.store(node_id, entry, encoded, self._origin(node_id) if whole else None)
            display = self._expansions.display(node_id)
            self._emit(NodeDone(node_id, spent.own, entry.ui, display, spent.loading, spent.importing))
        self._end(node_id, entry)

    def _finish_known(self, node_id: str, entry: CacheEntry, reason: str) -> None:
        self._agenda.entries[node_id] = entry
        self._note_cached(node_id, reason)
        self._end(node_id, entry)

    def _finish_elsewhere(self, node_id: str, entry: CacheEntry | None) -> None:
        """Another run of this process had the same node: take its result, or try in its place."""
        if entry is None or entry.outputs is None:
            self._agenda.ready.append(node_id)
        else:
            self._finish_known(node_id, entry, "shared")

    def _finish_blocked(self, node_id: str, stops: list[Blocked]) -> None:
        """Every call is blocked: the outputs are blocked, too."""
        self._report_blocked(node_id, stops)
        self._emit(NodeBlocked(node_id, self._expansions.display(node_id)))
        outputs = (Blocked(),) * len(self._agenda.order[node_id].type.outputs)
        self._end(node_id, CacheEntry(outputs, (None,) * len(outputs)))

    def _end(self, node_id: str, entry: CacheEntry) -> None:
        if self._expansions.has_effects(node_id) or self._stands_on_outside(node_id):
            self._outside.add(node_id)
        self._agenda.done(node_id, entry)
        if node_id in self._wanted:
            self._note_result(node_id)

    # -- reports ------------------------------------------------------------------------------------------------

    def _note_cached(self, node_id: str, reason: str) -> None:
        agenda, cached = self._agenda, self.cached
        entry = agenda.entries.get(node_id)
        self._report_cached(node_id, entry, reason)
        if entry is not None and node_id in self._wanted:
            self._note_result(node_id)
        for link in agenda.order[node_id].links.values():
            if link.node not in cached:
                self._report_behind(node_id)
                break

    def _report_behind(self, node_id: str) -> None:
        if self._context.refresh:
            return
        behind = known_behind(
            node_id,
            self._agenda.order,
            self._prints,
            self._cache,
            self._agenda.entries,
            is_reported=self._is_reported,
            is_valid=self._still_valid,
        )
        for source, known in behind:
            self._report_cached(source, known, "stored")

    def _is_reported(self, node_id: str) -> bool:
        """Whether the run has reported the node, or will."""
        return node_id in self.cached or node_id in self.timings or self._agenda.is_planned(node_id)

    def _is_done(self, node_id: str) -> bool:
        return node_id in self.cached or node_id in self.timings or node_id in self._agenda.entries

    def _report_cached(self, node_id: str, entry: CacheEntry | None, reason: str) -> None:
        self.cached[node_id] = None
        self._cache.touch(self._prints[node_id].recipe)
        ui = entry.ui if entry is not None else None
        self._emit(NodeCached(node_id, ui, reason, self._expansions.display(node_id)))

    def _note_result(self, node_id: str) -> None:
        entry = self._agenda.entries[node_id]
        if self._supply is None:
            self.results[node_id] = entry
        else:
            self._wanted.discard(node_id)
            self._supply.done(node_id, entry)

    def _report_blocked(self, node_id: str, stops: list[Blocked]) -> None:
        messages = dict.fromkeys(stop.message for stop in stops if stop.message is not None)
        for message in messages:
            self._reports.add(node_id, [Problem("blocked", message)])
        if messages:  # what follows must not be known by its recipe, or the next run would not report them
            self._outside.add(node_id)
            self._expansions.mark_inside(node_id)

    def _fail(self, node_id: str, error: BaseException) -> None:
        self._claims.give_back(node_id)
        if isinstance(error, Cancelled):
            self._cancel.set()
        elif self._smaller.takes(node_id, error):
            self._emit(NodeAnew(node_id, str(error), self._expansions.display(node_id)))
            self._agenda.ready.append(node_id)
        else:
            self._reports.failed(node_id, error)


def _documents(
    workflow: Mapping[str, Node], context: RunContext, expansions: Expansions
) -> Callable[[str], Callable[[], dict[str, Any]]]:
    """For each node, a function that makes the JSON of the workflow that it belongs to."""
    supply = context.supply
    if supply is not None:
        return lambda node_id: supply.document(expansions.display(node_id) or node_id)
    assert isinstance(workflow, Workflow)
    return lambda _: workflow.to_json
