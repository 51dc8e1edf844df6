"""Walks over a graph: what a node stands on, what stands on it, sources first, cycles.

A graph is a plain mapping of keys to the keys of their *sources*. A source may be named twice, and may be missing from
the mapping: it then counts as not there. No walk recurses, so chains may be long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

__all__ = ["cycle_in", "cyclic", "depth_first", "knots", "reached", "sources_first", "topological", "users_of"]

K = TypeVar("K")

Sources = Mapping[K, Collection[K]]


def users_of(sources: Sources[K]) -> dict[K, list[K]]:
    """The graph reversed: each key with the keys that it is a source of."""
    users: dict[K, list[K]] = {key: [] for key in sources}
    for key, found in sources.items():
        for source in dict.fromkeys(found):
            if source in users:
                users[source].append(key)
    return users


def reached(starts: Iterable[K], step: Callable[[K], Iterable[K]]) -> set[K]:
    """These keys and all that steps lead to: over sources their ancestors, over users their descendants."""
    found = set(starts)
    ahead = list(found)
    while ahead:
        for key in step(ahead.pop()):
            if key not in found:
                found.add(key)
                ahead.append(key)
    return found


def depth_first(starts: Iterable[K], step: Callable[[K], Iterable[K]]) -> dict[K, None]:
    """These keys and all that steps lead to, each behind what its own steps lead to, but for what closes a cycle."""
    found: dict[K, None] = {}
    begun: set[K] = set()
    for start in starts:
        if start in begun:
            continue
        begun.add(start)
        ahead = [(start, iter(step(start)))]
        while ahead:
            key, left = ahead[-1]
            following = next((each for each in left if each not in begun), None)
            if following is None:
                found[key] = None
                ahead.pop()
            else:
                begun.add(following)
                ahead.append((following, iter(step(following))))
    return found


def topological(sources: Sources[K]) -> list[K]:
    """The keys with sources before users; those on or behind a cycle are left out.

    A mapping that is in such an order already, as most documents are, stays as it is. Else Kahn's algorithm (1962).
    """
    seen: set[K] = set()
    for key, found in sources.items():
        if not seen.issuperset(found) and any(source not in seen and source in sources for source in found):
            break
        seen.add(key)
    else:
        return list(sources)
    users = users_of(sources)
    waiting = dict.fromkeys(sources, 0)
    for behind in users.values():
        for user in behind:
            waiting[user] += 1
    ready = deque(key for key, count in waiting.items() if count == 0)
    order = []
    while ready:
        key = ready.popleft()
        order.append(key)
        for user in users[key]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return order


def sources_first(sources: Sources[K]) -> list[K]:
    """All keys with sources before users; those on or behind a cycle come last, as they stand."""
    return list(dict.fromkeys([*topological(sources), *sources]))


def knots(sources: Sources[K]) -> list[list[K]]:
    """The strongly connected parts of the graph, sources first: keys that wait for each other are in one part, in the
    order in which they stand; all others are a part of their own."""
    import networkx as nx  # only drawings and graphs that are wrong need it

    graph = nx.DiGraph()
    graph.add_nodes_from(sources)
    graph.add_edges_from((key, source) for key, found in sources.items() for source in found if source in sources)
    place = {key: index for index, key in enumerate(sources)}
    return [sorted(part, key=place.__getitem__) for part in nx.strongly_connected_components(graph)]


def cyclic(sources: Sources[K]) -> list[list[K]]:
    """The knots in which keys wait for each other, or one for itself."""
    return [knot for knot in knots(sources) if len(knot) > 1 or knot[0] in sources[knot[0]]]


def cycle_in(knot: Collection[K], sources: Sources[K], start: K) -> list[K]:
    """A cycle in a knot, each key followed by one that uses it. Walking back from any key of a knot ends in one."""
    inside = set(knot)
    walked: dict[K, int] = {}
    key = start
    while key not in walked:
        walked[key] = len(walked)
        key = next(source for source in sources[key] if source in inside)
    return list(walked)[walked[key] :][::-1]
