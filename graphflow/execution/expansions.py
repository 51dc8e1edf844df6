"""The nodes that the nodes of a run brought: whose they are, what waits for them, and when to stop."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..cache import Brought
from ..check.validate import Bound
from ..document.workflow import Link, Node
from ..nodetype.node import NodeType
from ..plan.calls import CallResult
from ..plan.fingerprint import Fingerprint, fingerprints
from ..plan.plan import ancestors
from ..problem import GraphFlowError, Problem
from ..settings import Settings
from .agenda import Agenda
from .expand import unfold

__all__ = ["Expansions", "Unfolding"]

MOST = 1_000_000
"""Nodes that the expansions of one run may bring: a loop that never ends is a problem before the memory is full."""


@dataclass(slots=True)
class Unfolding:
    """A node that waits for the nodes that it expanded into."""

    answers: list[CallResult]
    seconds: float
    brought: set[Brought]
    """The types of the new nodes."""
    nodes: tuple[str, ...]

    def all_brought(self, agenda: Agenda) -> tuple[Brought, ...]:
        """The node types that it brought, and those that they brought."""
        inner = [agenda.entries[key].brought for key in self.nodes if key in agenda.entries]
        return tuple(sorted(self.brought.union(*inner), key=lambda part: part.type))


class Expansions:
    """The expansions of one run. `graph` holds all of its nodes, those of the workflow, too."""

    def __init__(
        self,
        workflow: Mapping[str, Node],
        agenda: Agenda,
        prints: dict[str, Fingerprint],
        types: Mapping[str, NodeType],
        settings: Settings,
    ) -> None:
        self._agenda, self._prints, self._types, self._settings = agenda, prints, types, settings
        self._added: dict[str, Node] = {}
        self.graph: Mapping[str, Node] = ChainMap(self._added, workflow)  # type: ignore[arg-type]
        self._parents: dict[str, str] = {}
        self._visible: dict[str, str] = {}
        self._open: dict[str, Unfolding] = {}
        self._open_recipes: Counter[bytes] = Counter()
        self._effects: set[str] = set()

    def __contains__(self, node_id: str) -> bool:
        """Whether the node has expanded and waits for what it brought."""
        return node_id in self._open

    def display(self, node_id: str) -> str | None:
        """The node of the workflow that this one was made by, if it does not stand there itself."""
        return self._visible.get(node_id)

    def has_effects(self, node_id: str) -> bool:
        """Whether its expansion holds output nodes, or nodes that look at the world outside: it is not cached as a
        whole, or the effects would be skipped, the changes not be seen."""
        return node_id in self._effects

    def open(self, node_id: str, answers: list[CallResult], seconds: float) -> list[str]:
        """Take in what the calls of a node brought; gives the nodes that have to be done before it is.

        Raises GraphFlowError with what is wrong in the expansion.
        """
        order = self._agenda.order
        found = unfold(node_id, answers, self.graph, order, self._types, self._settings)
        prints = fingerprints(found.order, self._settings, self._prints)
        self._refuse_endless(node_id, prints)
        self._added.update(found.nodes)
        order.update(found.order)
        self._prints.update(prints)
        visible = self._visible.get(node_id, node_id)
        for key in found.nodes:
            self._parents[key], self._visible[key] = node_id, visible
        needed = {
            value.node
            for one in found.answers
            if one.expansion is not None
            for value in one.outputs
            if isinstance(value, Link)
        }
        effects = [key for key, item in found.order.items() if item.type.is_output]
        if effects or self._looks_outside(node_id, found.order, prints):
            self._mark_effects(node_id)
        brought = {
            Brought(item.type.name, prints[key].version, prints[key].environment) for key, item in found.order.items()
        }
        self._open_recipes[self._prints[node_id].recipe] += 1
        self._open[node_id] = Unfolding(found.answers, seconds, brought, tuple(found.order))
        return [*needed, *(key for key in effects if key not in needed)]

    def close(self, node_id: str) -> Unfolding:
        """All that it waited for is there."""
        recipe = self._prints[node_id].recipe
        self._open_recipes[recipe] -= 1
        if not self._open_recipes[recipe]:
            del self._open_recipes[recipe]
        return self._open.pop(node_id)

    def _refuse_endless(self, node_id: str, prints: Mapping[str, Fingerprint]) -> None:
        if len(self._added) + len(prints) > MOST:
            raise GraphFlowError(
                [
                    Problem(
                        "endless",
                        f"expansions have brought more than {MOST} nodes",
                        hint="a loop needs a condition that ends it",
                    )
                ]
            )
        new = {print_.recipe for print_ in prints.values()}
        if self._prints[node_id].recipe not in new and not any(recipe in self._open_recipes for recipe in new):
            return
        ancestor: str | None = node_id
        while ancestor is not None:
            if self._prints[ancestor].recipe in new:
                raise GraphFlowError(
                    [
                        Problem(
                            "endless",
                            "the node expands into itself, with the same inputs",
                            hint="a loop has to change something from round to round",
                        )
                    ]
                )
            ancestor = self._parents.get(ancestor)

    def _looks_outside(self, node_id: str, order: Mapping[str, Bound], prints: Mapping[str, Fingerprint]) -> bool:
        """Whether its expansion depends on more than is in the recipe of the node."""
        names_all = self._agenda.order[node_id].type.reads is not None
        if any(mine.is_new or mine.asks_late for mine in prints.values()):
            return True
        if not names_all and any(mine.outside is not None for mine in prints.values()):
            return True
        linked = {link.node for item in order.values() for link in item.links.values()} - order.keys()
        linked -= {link.node for link in self._agenda.order[node_id].links.values()}
        return bool(linked) and not linked <= ancestors(self._agenda.order, node_id)

    def mark_inside(self, node_id: str) -> None:
        """A node of an expansion has reported something to the user: the expansion is not cached as a whole."""
        parent = self._parents.get(node_id)
        if parent is not None:
            self._mark_effects(parent)

    def _mark_effects(self, node_id: str) -> None:
        ancestor: str | None = node_id
        while ancestor is not None and ancestor not in self._effects:
            self._effects.add(ancestor)
            ancestor = self._parents.get(ancestor)
