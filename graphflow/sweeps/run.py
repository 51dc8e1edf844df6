"""Running the plan of a sweep: through the one executor, a window of variants at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Event as Flag
from typing import Any

from ..cache import CacheEntry
from ..document.walks import reached, users_of
from ..engine import Engine
from ..events import Event, NodeDone, NodeError, RunDone, RunStarted
from ..execution import Piece, Run, RunContext
from ..nodetype.numbering import Numbering
from ..problem import Cancelled, Problem
from ..results import NodeResult, node_result
from ..settings import Settings
from .axes import VariantList
from .plan import Merged, PlanDocument
from .variant import VariantResult, label

__all__ = ["Tally", "run_merged"]

WINDOW = 32
"""Variants that are under way at a time at least: enough to fill a pass, few enough to hold their latents."""


@dataclass(slots=True)
class Tally:
    """The work that a run of a sweep did."""

    ran: Counter[str] = field(default_factory=Counter)
    """Node of the workflow -> how many times it was computed, over all variants."""
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    """Node of the workflow -> seconds, over all variants."""

    def add(self, other: Tally) -> None:
        """Add the work of another run of the same sweep."""
        self.ran += other.ran
        self.seconds += other.seconds
        for node, seconds in other.timings.items():
            self.timings[node] = self.timings.get(node, 0.0) + seconds


def run_merged(
    engine: Engine,
    settings: Settings,
    variants: VariantList,
    merged: Merged,
    *,
    give: Callable[[VariantResult], None],
    emit: Callable[[Event], None],
    cancel: Flag,
    refresh: bool,
    extra_pnginfo: Mapping[str, Any] | None,
) -> Tally:
    """Run all variants of the plan and `give` each as soon as its outputs are there, or cannot be. Raises Cancelled."""
    tally = Tally()
    supply = _Supply(variants, merged, max(WINDOW, 2 * settings.together), give)

    def watch(event: Event) -> None:
        match event:
            case RunStarted():
                event = RunStarted(tuple(merged.nodes), ())
            case NodeDone(node=node, seconds=seconds, display=None):
                tally.ran[merged.node_of(node)] += 1
                tally.timings[merged.node_of(node)] = tally.timings.get(merged.node_of(node), 0.0) + seconds
            case NodeError(node=node, problem=problem, display=display):
                supply.failed(display or node, Problem(**problem))
        emit(event)

    began = time.perf_counter()
    status = "failed"

    def columns(variant: int) -> dict[str, str]:
        return {variants.names[place]: label(value) for place, value in variants[variant].values.items()}

    context = RunContext(
        cache=engine.cache,
        settings=settings,
        types=engine.registry,
        admission=engine.admission,
        workers=engine.workers,
        emit=watch,
        cancel=cancel,
        refresh=refresh,
        extra_pnginfo=extra_pnginfo,
        numbering=Numbering(merged.variant_of, merged.node_of, len(variants), columns),
        supply=supply,
        other=engine.cluster,
    )
    titles = {node_id: node.title for node_id, node in variants.workflow.items()}
    work = Run(PlanDocument(merged, titles), {}, {}, context)
    try:
        with engine.cache.running():
            engine.cache.fetch([node.recipe for node in merged.nodes.values()])
            work.execute(())
            if cancel.is_set() and not supply.is_empty:
                raise Cancelled()
            supply.close(work.problems)
        status = "failed" if work.problems else "done"
    except Cancelled:
        status = "cancelled"
        raise
    finally:
        tally.seconds = time.perf_counter() - began
        watch(RunDone(status, tally.seconds, context.imports.seconds))
    return tally


@dataclass(slots=True)
class _Open:
    """A variant that is under way."""

    missing: set[str]
    """Outputs, by their ids in the plan, that are neither there nor known to fail."""
    entries: dict[str, NodeResult] = field(default_factory=dict)
    problems: dict[Problem, None] = field(default_factory=dict)


class _Supply:
    """Hands out the variants in the order of the plan, and puts their results together."""

    def __init__(
        self, variants: VariantList, merged: Merged, window: int, give: Callable[[VariantResult], None]
    ) -> None:
        self._variants, self._merged, self._window, self._give = variants, merged, window, give
        self._left: Iterator[tuple[int, tuple[str, ...]]] = iter(merged.wanted.items())
        self._next = next(self._left, None)
        self._open: dict[int, _Open] = {}
        self._waiting: dict[str, list[int]] = {}
        """Output in the plan -> the open variants that have it."""
        self._known: dict[str, NodeResult] = {}
        """Outputs that are there, of which later variants may have the same: only those that several have."""
        self._lost: set[str] = set()
        """Outputs that have failed since the last look."""
        self._users: dict[str, list[str]] = {}
        """Node of the plan -> those linked to it; made when the first one fails."""
        counts = Counter(output for outputs in merged.wanted.values() for output in outputs)
        self._outputs = counts.keys()
        self._shared = {output for output, count in counts.items() if count > 1}
        self._problems: dict[str, dict[Problem, None]] = {}
        """Output -> why it failed, or will: its variants need not begin."""
        self.uses = merged.uses()

    @property
    def is_empty(self) -> bool:
        return self._next is None and not self._open

    def next(self) -> Piece | None:
        self._settle_lost()
        if self._next is None or len(self._open) > self._window // 2:
            return None
        wanted: dict[str, None] = {}
        while self._next is not None and len(self._open) < self._window:
            index, outputs = self._next
            self._next = next(self._left, None)
            self._begin(index, outputs, wanted)
        return Piece(*self._merged.part(wanted), list(wanted)) if wanted else None

    def _begin(self, index: int, outputs: tuple[str, ...], wanted: dict[str, None]) -> None:
        variant = self._open[index] = _Open(set(outputs))
        for output in outputs:
            if output in self._known:
                variant.entries[output] = self._known[output]
                variant.missing.discard(output)
            elif output in self._problems:
                variant.problems |= self._problems[output]
                variant.missing.discard(output)
            else:
                self._waiting.setdefault(output, []).append(index)
                wanted[output] = None
        self._settle_if_done(index)

    def done(self, node_id: str, entry: CacheEntry) -> None:
        result = node_result(self._merged.nodes[node_id].own.node, entry)
        if node_id in self._shared:
            self._known[node_id] = result
        self._lost.discard(node_id)
        for index in self._waiting.pop(node_id, ()):
            variant = self._open[index]
            variant.entries[node_id] = result
            variant.missing.discard(node_id)
            self._settle_if_done(index)

    def failed(self, node_id: str, problem: Problem) -> None:
        """A node has failed, and with it all outputs that stand on it."""
        placed = replace(problem, node=self._merged.node_of(node_id))
        for output in self._standing_on(node_id) & self._outputs:
            self._lost.add(output)
            self._problems.setdefault(output, {})[placed] = None
            for index in self._waiting.get(output, ()):
                self._open[index].problems[placed] = None

    def _standing_on(self, node_id: str) -> set[str]:
        """The node and all that need it."""
        if not self._users:
            self._users = users_of({key: node.sources for key, node in self._merged.nodes.items()})
        return reached([node_id], self._users.__getitem__)

    def _settle_lost(self) -> None:
        """Several problems may be reported of one node, and it may have outputs in spite of them; now it is decided."""
        lost, self._lost = self._lost, set()
        for output in lost:
            for index in self._waiting.pop(output, ()):
                self._open[index].missing.discard(output)
                self._settle_if_done(index)

    def _settle_if_done(self, index: int) -> None:
        if not self._open[index].missing:
            self._settle(index)

    def _settle(self, index: int) -> None:
        variant = self._open.pop(index)
        outputs = zip(self._merged.targets, self._merged.wanted[index], strict=True)
        nodes = {target: variant.entries[output] for target, output in outputs if output in variant.entries}
        self._give(VariantResult(self._variants[index], nodes, tuple(variant.problems)))

    def close(self, problems: list[Problem]) -> None:
        """Give what is left when the run is over: variants whose outputs never came."""
        self._settle_lost()
        for index in list(self._open):
            self._open[index].problems |= dict.fromkeys(problems)
            self._settle(index)

    def document(self, node_id: str) -> Callable[[], dict[str, Any]]:
        variant = self._merged.variant_of(node_id)
        return lambda: self._variants[variant].workflow.to_json()

    def name(self, node_id: str) -> str:
        return self._merged.node_of(node_id)
