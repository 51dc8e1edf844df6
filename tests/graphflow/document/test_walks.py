"""The walks agree with networkx on any graph, and do not care how long a chain is."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.document.walks import (
    cycle_in,
    cyclic,
    depth_first,
    knots,
    reached,
    sources_first,
    topological,
    users_of,
)

Graph = dict[int, list[int]]

GRAPHS = st.dictionaries(st.integers(0, 8), st.lists(st.integers(0, 9), max_size=4), max_size=9)
"""Sources may be named twice, and may be missing."""
CHAIN = {key: [key - 1] if key else [] for key in range(10_000)}
SHUFFLED = {key: CHAIN[key] for key in sorted(CHAIN, key=lambda key: key * 7919 % 10_000)}


def known(graph: Graph) -> nx.DiGraph:
    """Edges from source to user, among the keys that are there."""
    found = nx.DiGraph()
    found.add_nodes_from(graph)
    found.add_edges_from((source, key) for key, sources in graph.items() for source in sources if source in graph)
    return found


@given(GRAPHS)
def test_topological_order_has_sources_first_and_leaves_out_what_is_on_or_behind_a_cycle(graph: Graph) -> None:
    order = topological(graph)
    place = {key: index for index, key in enumerate(order)}
    assert all(place[source] < place[key] for key in order for source in graph[key] if source in graph)
    whole = known(graph)
    looped = {
        key
        for knot in nx.strongly_connected_components(whole)
        for key in knot
        if len(knot) > 1 or whole.has_edge(key, key)
    }
    behind = looped.union(*(nx.descendants(whole, key) for key in looped))
    assert set(order) == set(graph) - behind and len(order) == len(set(order))
    everything = sources_first(graph)
    assert everything[: len(order)] == order and sorted(everything) == sorted(graph)


@given(GRAPHS)
def test_an_order_that_is_topological_already_stays_as_it_is(graph: Graph) -> None:
    order = topological(graph)
    assert topological({key: graph[key] for key in order}) == order


@given(GRAPHS)
def test_reached_gives_ancestors_over_sources_and_descendants_over_users(graph: Graph) -> None:
    whole, users = known(graph), users_of(graph)
    inside = {key: [source for source in sources if source in graph] for key, sources in graph.items()}
    for key in graph:
        assert reached([key], inside.__getitem__) == {key} | nx.ancestors(whole, key)
        assert reached([key], users.__getitem__) == {key} | nx.descendants(whole, key)


@given(GRAPHS)
def test_depth_first_gives_what_is_reached_each_behind_its_sources(graph: Graph) -> None:
    inside = {key: [source for source in sources if source in graph] for key, sources in graph.items()}
    order = list(depth_first(inside, inside.__getitem__))
    assert sorted(order) == sorted(graph)
    if not cyclic(graph):
        assert all(order.index(source) < order.index(key) for key in order for source in inside[key])


@given(GRAPHS)
def test_knots_are_the_strongly_connected_parts_sources_first(graph: Graph) -> None:
    found = knots(graph)
    assert {frozenset(knot) for knot in found} == {
        frozenset(each) for each in nx.strongly_connected_components(known(graph))
    }
    place = {key: index for index, knot in enumerate(found) for key in knot}
    assert all(place[source] <= place[key] for key in graph for source in graph[key] if source in graph)


@given(GRAPHS)
def test_a_cycle_is_shown_for_each_knot_that_has_one(graph: Graph) -> None:
    loops = cyclic(graph)
    assert bool(loops) == (not nx.is_directed_acyclic_graph(known(graph)))
    for knot in loops:
        path = cycle_in(knot, graph, knot[0])
        assert set(path) <= set(knot)
        assert all(one in graph[other] for one, other in zip(path, path[1:] + path[:1], strict=True))


@pytest.mark.parametrize("graph", [CHAIN, SHUFFLED])
def test_a_chain_of_ten_thousand_is_walked_without_recursion(graph: Graph) -> None:
    assert topological(graph) == list(CHAIN)
    assert len(knots(graph)) == 10_000 and not cyclic(graph)
    assert list(depth_first([9_999], graph.__getitem__)) == list(CHAIN)
    assert len(reached([9_999], graph.__getitem__)) == 10_000
    ring = {**graph, 0: [9_999]}
    assert [len(knot) for knot in cyclic(ring)] == [10_000] and len(cycle_in(cyclic(ring)[0], ring, 0)) == 10_000
