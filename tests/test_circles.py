"""No file and no folder imports itself by way of others; imports inside functions count like all others."""

from __future__ import annotations

from collections.abc import Iterable

import grimp
import networkx as nx
import pytest

PACKAGES = ("graphflow", "graphflow_nodes", "graphflow_server")


Edge = tuple[str, str]


@pytest.fixture(scope="module")
def imports() -> list[Edge]:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return [(module, used) for module in graph.modules for used in graph.find_modules_directly_imported_by(module)]


def circles(edges: Iterable[Edge]) -> set[frozenset[str]]:
    return {frozenset(knot) for knot in nx.strongly_connected_components(nx.DiGraph(list(edges))) if len(knot) > 1}


def rooms(edges: Iterable[Edge], inside: str) -> set[Edge]:
    """The imports between the parts of a folder: its files, and its folders each as one."""
    depth = inside.count(".") + 2
    found = set()
    for one, other in edges:
        if one.startswith(inside + ".") and other.startswith(inside + "."):
            pair = ".".join(one.split(".")[:depth]), ".".join(other.split(".")[:depth])
            if pair[0] != pair[1]:
                found.add(pair)
    return found


def test_no_circle_of_files(imports: list[Edge]) -> None:
    assert circles(imports) == set()


def test_no_circle_of_folders(imports: list[Edge]) -> None:
    folders = {module.rpartition(".")[0] for edge in imports for module in edge if "." in module}
    found: set[frozenset[str]] = set().union(*(circles(rooms(imports, folder)) for folder in folders))
    assert found == set()


def test_a_circle_of_folders_is_seen_where_no_two_files_form_one() -> None:
    edges = [("graphflow.a.one", "graphflow.b.two"), ("graphflow.b.three", "graphflow.a.four")]
    assert not circles(edges)
    assert circles(rooms(edges, "graphflow")) == {frozenset({"graphflow.a", "graphflow.b"})}
