"""Workflow + wanted outputs -> the part of the graph that must run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ..check.validate import Bound
from ..document.walks import reached

__all__ = ["Known", "Plan", "ancestors", "eager_sources", "needed", "plan", "stood_on"]


class Known(Enum):
    """Whether a node is known to the cache."""

    NO = "no"
    YES = "yes"
    HANDLES = "handles"
    """Its outputs are handles: it counts as known, and its function, which costs nothing, makes them again."""


@dataclass(frozen=True, slots=True)
class Plan:
    graph: Mapping[str, Collection[str]]
    """The nodes to run, each with those of them that must be done before it."""
    handles: frozenset[str]
    """Those of them that only make handles anew."""
    known: frozenset[str]
    """The nodes whose outputs are known and used."""


def plan(order: Mapping[str, Bound], wanted: Iterable[str], ask: Callable[[str], Known]) -> Plan:
    """Walk back from the wanted nodes; the cache is not asked about what lies behind a known node, and a lazy input
    is not looked at yet."""
    sources: dict[str, list[str]] = {}
    handles: set[str] = set()
    known: set[str] = set()
    stack = list(wanted)[::-1]
    while stack:
        node_id = stack.pop()
        if node_id in sources or node_id in known:
            continue
        answer = ask(node_id)
        if answer is Known.YES:
            known.add(node_id)
            continue
        if answer is Known.HANDLES:
            handles.add(node_id)
        sources[node_id] = list(dict.fromkeys(eager_sources(order[node_id])))
        stack.extend(sources[node_id])
    if known:
        sources = {key: [source for source in found if source not in known] for key, found in sources.items()}
    return Plan(sources, frozenset(handles), frozenset(known))


def eager_sources(node: Bound) -> list[str]:
    """The nodes that must be there before this one is called, in the order of its inputs."""
    lazy = node.lazy
    return [link.node for name, link in node.links.items() if name not in lazy]


def ancestors(order: Mapping[str, Bound], node_id: str) -> set[str]:
    """All nodes that a node is linked to, directly or through others."""
    return reached(_linked(order[node_id]), lambda key: _linked(order[key]))


def needed(order: Mapping[str, Bound], wanted: Iterable[str]) -> set[str]:
    """The wanted nodes and all that they stand on, but for what lies behind lazy inputs."""
    return reached(wanted, lambda key: eager_sources(order[key]))


def _linked(node: Bound) -> list[str]:
    return [link.node for link in node.links.values()]


def stood_on(order: Mapping[str, Bound], wanted: Iterable[str], planned: Plan) -> tuple[str, ...]:
    """The nodes that need not run because their outputs, or those of what uses them, are known, in order."""
    all_needed = needed(order, wanted)
    return tuple(key for key in order if key in all_needed and (key not in planned.graph or key in planned.handles))
