"""Nodes of a run that another engine computes: each is sent as a small workflow of its own, and its result comes back
through the shared level of the cache.

What is sent is the node and all that it stands on. The other engine finds in the shared level what it, or anybody, has
computed of that, and puts the result there; here it is found under the same recipe. So a recipe that is not the same
(another kind of device, other versions of libraries) is noticed: its result is not used.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from typing import Any

from ..cache import CacheEntry
from ..check.validate import Bound
from ..document.walks import depth_first
from ..document.workflow import Node, Workflow
from ..events import Event, NodeDone, Progress, Text
from ..nodetype.node import NodeType
from ..plan.fingerprint import Fingerprint
from ..problem import CacheWarning, InvalidWorkflow, Problem
from .call import Call, Spent
from .context import OtherEngine, RunContext

__all__ = ["AT_ONCE", "Elsewhere", "is_for_others"]

AT_ONCE = 16
"""Nodes of a run that others compute at a time."""
WORTH_A_WARNING = 0.5
"""Seconds of a node from which it is reported that its result did not come back. The quickest are not kept at all."""


def is_for_others(kind: NodeType) -> bool:
    """Whether another engine may compute nodes of this type: those that want a device for themselves, and neither
    expand nor have an effect here."""
    return kind.lane is not None and kind.effect is None and not (kind.is_async or kind.expands or kind.is_output)


class Elsewhere:
    """Of one run. Its methods are called in the threads of nodes."""

    def __init__(self, other: OtherEngine, run: RunContext) -> None:
        self._other, self._run = other, run
        self._unknown: set[str] = set()
        """Node types that the other engine does not have: those of a script, for example."""
        self._lock = Lock()

    def compute(
        self, call: Call, order: Mapping[str, Bound], prints: Mapping[str, Fingerprint]
    ) -> tuple[CacheEntry, Spent] | None:
        """The result of a node that the other engine has computed; None where this one has to.

        Raises what the node raised there, and Cancelled.
        """
        mine = prints[call.node]
        if call.display is not None or mine.is_volatile or mine.is_open or mine.asks_late:
            return None
        workflow = self._sent(call.node, order)
        if workflow is None:
            return None
        spent = Spent(0.0)

        def forward(event: Event) -> None:
            nonlocal spent
            if isinstance(event, NodeDone) and event.node == call.node:
                spent = Spent(event.seconds, event.loading, event.importing)
            elif isinstance(event, (Progress, Text)) and event.node == call.node:
                self._run.emit(replace(event))

        try:
            self._other.run(workflow, targets=(call.node,), on_event=forward, cancel=self._run.cancel)
        except InvalidWorkflow as error:
            unknown = {problem.code for problem in error.problems} == {"unknown_node_type"}
            if not unknown:
                raise
            with self._lock:
                self._unknown |= {order[key].type.name for problem in error.problems if (key := problem.node) in order}
            return None
        self._run.cache.fetch([mine.recipe])
        entry = self._run.cache.get(mine.recipe)
        if entry is None or (entry.outputs is None and order[call.node].type.outputs):
            if spent.own > WORTH_A_WARNING:
                warnings.warn(str(_not_found(call, mine)), CacheWarning, stacklevel=2)
            return None
        return entry, spent

    def _sent(self, node_id: str, order: Mapping[str, Bound]) -> Workflow | None:
        """The node and all that it stands on; None where a part of it exists in this process only."""
        nodes: dict[str, Node] = {}
        for key in depth_first([node_id], lambda each: [link.node for link in order[each].links.values()]):
            bound = order[key]
            kind = bound.type
            if kind.name in self._unknown or kind.by_id or kind.is_output or kind.effect is not None:
                return None
            inputs: dict[str, Any] = {**bound.literals, **{name: list(link) for name, link in bound.links.items()}}
            try:
                nodes[key] = Node(kind.name, json.loads(json.dumps(inputs, allow_nan=False)))
            except (TypeError, ValueError):
                return None
        return Workflow(nodes)


def _not_found(call: Call, mine: Fingerprint) -> Problem:
    return Problem(
        "not_shared",
        f"{call.type} was computed elsewhere, but its result is not in the cache of this engine, which computes it"
        f" again (here: {mine.environment or 'any device'})",
        call.node,
        hint="both need the same shared level (Cache(remote=...)), kind of device, models and libraries",
    )
