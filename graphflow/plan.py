"""Workflow + wanted outputs -> the part of the graph that must run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import networkx as nx

from .validate import Bound

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    graph: nx.DiGraph
    """The nodes to run, with an edge from each to those that use it."""
    cached: tuple[str, ...]
    """Where the walk ended: wanted nodes, or inputs of nodes to run, whose outputs are known already."""


def plan(order: Mapping[str, Bound], wanted: Iterable[str], is_cached: Callable[[str], bool]) -> Plan:
    """Walk back from the wanted nodes; what is cached is not looked behind, and a lazy input is not looked at yet."""
    graph = nx.DiGraph()
    cached: dict[str, None] = {}
    seen: set[str] = set()
    stack = list(reversed(list(wanted)))
    edges: list[tuple[str, str]] = []
    while stack:
        node_id = stack.pop()
        if node_id in seen:
            continue
        seen.add(node_id)
        if is_cached(node_id):
            cached[node_id] = None
            continue
        graph.add_node(node_id)
        node = order[node_id]
        for name, link in node.links.items():
            if name not in node.type.lazy:
                edges.append((link.node, node_id))
                stack.append(link.node)
    graph.add_edges_from(edge for edge in edges if edge[0] not in cached)
    return Plan(graph, tuple(cached))
