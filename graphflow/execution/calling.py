"""The calls of one run's nodes: what goes into each, and the entry of what they gave."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..cache import Brought, CacheEntry
from ..document.walks import depth_first
from ..foreign.standins import altered
from ..nodetype.inputs import Lazy
from ..nodetype.node import ALWAYS, NodeType
from ..nodetype.reads import Reads
from ..plan.calls import CallResult, blocked, join, look_outside, merge_ui, spread
from ..plan.fingerprint import Fingerprint, environment_of
from ..values import Blocked, Encoded, share
from ..values.kinds import ATOMS
from ..version import installed_version
from .admission import place_of
from .agenda import Agenda
from .anew import SmallerPasses
from .call import Call, Performer, Spent
from .claims import Claims
from .context import RunContext
from .elsewhere import Elsewhere, is_for_others
from .expansions import Expansions

__all__ = ["Caller", "NodeOutcome", "has_expansion"]


class NodeOutcome(NamedTuple):
    """The result of all calls of a node, as the cache keeps it."""

    entry: CacheEntry
    encoded: tuple[Encoded, ...] | None
    stops: list[Blocked]
    """The values that blocked some of the calls."""
    spent: Spent
    is_true: bool = True
    """Whether the fingerprint holds all that the result depends on: what the node reads outside may have changed before
    the call read it, for example."""


class Caller:
    """Makes the calls of one run's nodes."""

    def __init__(
        self,
        run: RunContext,
        agenda: Agenda,
        claims: Claims,
        expansions: Expansions,
        prints: Mapping[str, Fingerprint],
        smaller: SmallerPasses,
        document: Callable[[str], Callable[[], dict[str, Any]]],
    ) -> None:
        """`document(node)` makes the JSON of the workflow that the node belongs to."""
        self._run, self._agenda, self._claims, self._expansions, self._prints = run, agenda, claims, expansions, prints
        self._smaller = smaller
        self._is_altered = False
        """Code of a node has changed the libraries that compute, since this run was planned."""
        self._performer = Performer(run, expansions.graph, document, self.record)
        self._elsewhere = Elsewhere(run.other, run) if run.other is not None and run.cache.is_on else None

    def record(self, node_id: str) -> dict[str, Any]:
        """The origin of a file of this node: each node that it stands on with its type, the version of its code, the
        digests of the files that it reads, and the libraries and devices that change its numbers."""
        order, supply = self._agenda.order, self._run.supply
        nodes: dict[str, dict[str, str]] = {}
        for key in depth_first([node_id], lambda each: [link.node for link in order[each].links.values()]):
            known = self._prints[key]
            kind = order[key].type
            facts = {
                "type": kind.name,
                "version": known.version,
                "outside": known.outside,
                "environment": known.environment if kind.effect is None else None,  # of one that writes: its folder
            }
            name = key if supply is None else supply.name(key)
            nodes[name] = {fact: text for fact, text in facts.items() if text is not None}
        return {"version": installed_version(), "nodes": nodes}

    def stops(self, node_id: str) -> list[Blocked] | None:
        """The values that block the node, if every call is blocked."""
        if not self._agenda.may_be_blocked(node_id):
            return None
        every = self._agenda.order[node_id].every
        found = [blocked(call, every) for call in spread(self._agenda.values(node_id), every)]
        stops = [stop for stop in found if stop is not None]
        return stops if found and len(stops) == len(found) else None

    def call(self, node_id: str) -> Call:
        """The call of a node whose inputs are there."""
        node = self._agenda.order[node_id]
        values = self._agenda.values(node_id)
        is_special = self._agenda.may_be_blocked(node_id)  # lists, or what blocks; of nearly no node
        calls = spread(values, node.every) if is_special or node.every else [values]
        return Call(
            node=node_id,
            type=node.type.name,
            inputs=tuple([(is_special and blocked(call, node.every)) or self._inputs(node_id, call) for call in calls]),
            place=place_of(node.type, self._run.settings),
            is_alone=node_id in self._smaller,
            display=self._expansions.display(node_id),
            states=self._claims.states(node_id, len(calls)) if node.type.context is not None else (),
        )

    def expect(self, node_ids: Iterable[str]) -> None:
        """As `Performer.expect`."""
        self._performer.expect(node_ids)

    def expect_not(self, node_id: str) -> None:
        """As `Performer.expect_not`."""
        self._performer.expect_not(node_id)

    def work(self, node_id: str) -> Callable[[], Any]:
        """Performs the call of a node, in a worker: returns what it made, or the answers if some bring more graph.

        For an async node, a coroutine function that returns the answers.
        """
        call = self.call(node_id)
        if self._agenda.order[node_id].type.is_async:
            return lambda: self._performer.perform_async(call)

        elsewhere = self._elsewhere if is_for_others(self._agenda.order[node_id].type) else None

        def work() -> NodeOutcome | list[CallResult]:
            found = elsewhere.compute(call, self._agenda.order, self._prints) if elsewhere is not None else None
            if found is not None:
                return NodeOutcome(found[0], None, [], found[1])
            answers, spent = self._performer.perform(call)
            return answers if has_expansion(answers) else self.made(node_id, answers, spent)

        return work

    def made(
        self, node_id: str, answers: list[CallResult], spent: Spent, brought: tuple[Brought, ...] = ()
    ) -> NodeOutcome:
        """The entry of a node whose calls have all answered."""
        kind = self._agenda.order[node_id].type
        outputs = join(kind, answers, self._agenda.value, lambda slot: self._agenda.is_needed(node_id, slot))
        ui = merge_ui(answers)
        stops = [one.blocked for one in answers if one.blocked is not None]
        if not self._run.cache.is_on:
            return NodeOutcome(CacheEntry(outputs, (None,) * len(outputs), ui, spent.own), None, stops, spent)
        before = self._prints[node_id].outside
        is_true = before is None or before == ALWAYS or self.outside(node_id)[0] == before
        is_true = is_true and self._is_told(node_id, kind, answers)
        effect = kind.effect(self._run.settings, ui) if kind.effect is not None else None
        entry, encoded = self._run.cache.make(outputs, ui, spent.own, brought, effect)
        return NodeOutcome(entry, encoded, stops, spent, is_true)

    def _is_told(self, node_id: str, kind: NodeType, answers: list[CallResult]) -> bool:
        """Whether the fingerprint holds everything that counts. It does not hold where the node stands in the workflow,
        the modules that the call loaded, and what it, or a node before it, changed in libraries."""
        if kind.pack and environment_of(kind, self._run.settings, altered()) != self._prints[node_id].environment:
            self._is_altered = True
        if self._is_altered:
            return False
        if kind.effect is not None or not kind.fills_in:  # its files keep its place; a pack declares it, see `by_id`
            return True
        free = _WORKFLOW if kind.is_output else _NOTHING
        return all(one.asked <= free for one in answers)

    def outside(self, node_id: str) -> tuple[str, Reads]:
        """The present answer of the node's `outside`, and its parts; its inputs must be there."""
        return look_outside(self._agenda.order[node_id], self._run.settings, lambda: self._agenda.values(node_id))

    def _inputs(self, node_id: str, call: dict[str, Any]) -> dict[str, Any]:
        """The inputs of one call: copies that nobody else has."""
        node = self._agenda.order[node_id]
        values = {name: value if type(value) in ATOMS else share(value) for name, value in call.items()}
        for name in node.links:
            if node.inputs[name].type == "FLOAT" and name in values:
                values[name] = _as_float(values[name])
        for name in node.lazy:
            if name in values:
                values[name] = Lazy(name, values[name], known=True)
            elif name in node.links:
                link = node.links[name]
                values[name] = [link.node, link.slot] if node.inputs[name].raw else Lazy(name)
        return values


_NOTHING: frozenset[str] = frozenset()
_WORKFLOW = frozenset({"workflow_json", "extra_pnginfo"})
"""Output nodes write it beside their result."""


def _as_float(value: Any) -> Any:
    """A whole number on a link into a FLOAT is a float there, as it is as a literal."""
    if type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    return [_as_float(item) for item in value] if type(value) is list else value


def has_expansion(answers: list[CallResult]) -> bool:
    return any(one.expansion is not None for one in answers)
