"""Workflow + wanted outputs -> the part of the graph that must run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import networkx as nx

from ..check.validate import Bound

__all__ = ["Known", "Plan", "ancestors", "eager_sources", "needed", "plan", "stood_on"]


class Known(Enum):
    """What the cache says of a node."""

    NO = "no"
    YES = "yes"
    HANDLES = "handles"
    """Its outputs are handles: it counts as known, and its function, which costs nothing, makes them again."""


@dataclass(frozen=True, slots=True)
class Plan:
    graph: nx.DiGraph
    """The nodes to run, with an edge from each to those that use it."""
    handles: frozenset[str]
    """Those of them that only make handles anew."""
    known: frozenset[str]
    """The nodes whose outputs are known and used."""


def plan(order: Mapping[str, Bound], wanted: Iterable[str], ask: Callable[[str], Known]) -> Plan:
    """Walk back from the wanted nodes; the cache is not asked about what lies behind a known node, and a lazy input
    is not looked at yet."""
    graph = nx.DiGraph()
    handles: set[str] = set()
    known: set[str] = set()
    seen: set[str] = set()
    stack = list(wanted)[::-1]
    edges: list[tuple[str, str]] = []
    while stack:
        node_id = stack.pop()
        if node_id in seen:
            continue
        seen.add(node_id)
        answer = ask(node_id)
        if answer is Known.YES:
            known.add(node_id)
            continue
        if answer is Known.HANDLES:
            handles.add(node_id)
        graph.add_node(node_id)
        for source in eager_sources(order[node_id]):
            edges.append((source, node_id))
            stack.append(source)
    graph.add_edges_from(edge for edge in edges if edge[0] not in known)
    return Plan(graph, frozenset(handles), frozenset(known))


def eager_sources(node: Bound) -> list[str]:
    """The nodes that must be there before this one is called, in the order of its inputs."""
    lazy = node.lazy
    return [link.node for name, link in node.links.items() if name not in lazy]


def ancestors(order: Mapping[str, Bound], node_id: str) -> set[str]:
    """All nodes that a node is linked to, directly or through others."""
    seen: set[str] = set()
    stack = [node_id]
    while stack:
        for link in order[stack.pop()].links.values():
            if link.node not in seen:
                seen.add(link.node)
                stack.append(link.node)
    return seen


def needed(order: Mapping[str, Bound], wanted: Iterable[str]) -> set[str]:
    """The wanted nodes and all that they stand on, but for what lies behind lazy inputs."""
    seen: set[str] = set()
    stack = list(wanted)
    while stack:
        node_id = stack.pop()
        if node_id not in seen:
            seen.add(node_id)
            stack.extend(eager_sources(order[node_id]))
    return seen


def stood_on(order: Mapping[str, Bound], wanted: Iterable[str], planned: Plan) -> tuple[str, ...]:
    """The nodes that need not run because their outputs, or those of what uses them, are known, in order."""
    all_needed = needed(order, wanted)
    return tuple(key for key in order if key in all_needed and (key not in planned.graph or key in planned.handles))
