"""The one plan of a sweep: small enough for a hundred thousand nodes, handed to the executor piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..check.validate import Bound
from ..document.walks import depth_first
from ..document.workflow import Link, Node
from ..plan.fingerprint import Fingerprint
from ..problem import Problem

__all__ = ["Merged", "Own", "Planned"]


@dataclass(frozen=True, slots=True)
class Own:
    """A node with one combination of its own values. The links are those of the workflow, and not in the
    fingerprint."""

    node: Bound
    print: Fingerprint


class Planned(NamedTuple):
    """A node of the plan: what it is, and what it is linked to. Small, as a plan may hold a hundred thousand of
    them."""

    own: Own
    sources: tuple[str, ...]
    """For each link, in order, the node of the plan that it comes from."""
    recipe: bytes


@dataclass(slots=True)
class Merged:
    """One plan for all variants. A node of it is `ID`, or `ID@VARIANT`: as the first variant has it that needs it
    so."""

    separator: str
    nodes: dict[str, Planned] = field(default_factory=dict)
    """In topological order."""
    targets: tuple[str, ...] = ()
    """The outputs of a variant, by their ids in the workflow."""
    wanted: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Variant -> its outputs by their ids in the plan, in the order in which the variants should run."""
    invalid: dict[int, tuple[Problem, ...]] = field(default_factory=dict)
    """Variant -> what is wrong with it: it cannot run."""

    def part(self, wanted: Iterable[str]) -> tuple[dict[str, Bound], dict[str, Fingerprint]]:
        """These nodes and all that they stand on, in topological order, as the executor takes them."""
        needed = depth_first(wanted, lambda node_id: self.nodes[node_id].sources)
        order: dict[str, Bound] = {}
        prints: dict[str, Fingerprint] = {}
        for node_id in needed:
            own, sources, recipe = self.nodes[node_id]
            pairs = zip(own.node.links.items(), sources, strict=True)
            links = {name: Link(source, link.slot) for (name, link), source in pairs}
            order[node_id] = replace(own.node, id=node_id, links=links)
            is_volatile = own.print.is_volatile or any([prints[source].is_volatile for source in sources])
            is_open = own.print.is_open or any([prints[source].is_open for source in sources])
            prints[node_id] = own.print._replace(recipe=recipe, is_volatile=is_volatile, is_open=is_open)
        return order, prints

    def uses(self) -> dict[str, int]:
        """Nodes that several others are linked to, and how many links those are."""
        counts = Counter(source for node in self.nodes.values() for source in node.sources)
        return {node_id: count for node_id, count in counts.items() if count > 1}

    def node_of(self, merged_id: str) -> str:
        """The id that the node has in the workflow."""
        return merged_id.partition(self.separator)[0]

    def variant_of(self, merged_id: str) -> int:
        """A variant that has this node."""
        return int(merged_id.partition(self.separator)[2] or next(iter(self.wanted), 0))


class PlanDocument(Mapping[str, Node]):
    """The plan seen as a workflow, for what looks a node up by its id."""

    def __init__(self, merged: Merged, titles: Mapping[str, str | None]) -> None:
        self._merged, self._titles = merged, titles

    def __getitem__(self, merged_id: str) -> Node:
        own, sources, _ = self._merged.nodes[merged_id]
        inputs: dict[str, Any] = dict(own.node.literals)
        for (name, link), source in zip(own.node.links.items(), sources, strict=True):
            inputs[name] = [source, link.slot]
        title = self._titles.get(self._merged.node_of(merged_id))
        meta = {} if title is None else {"_meta": {"title": title}}
        return Node(class_type=own.node.type.name, inputs=inputs, **meta)

    def __iter__(self) -> Iterator[str]:
        return iter(self._merged.nodes)

    def __len__(self) -> int:
        return len(self._merged.nodes)
