"""The nodes of a file that are sent: those that run, in the root and in all instances of subgraphs."""

from __future__ import annotations

from collections.abc import Iterator

from ...problem import Problem
from .document import EditorNode
from .links import VIRTUAL
from .subgraphs import MAX_DEPTH, GraphInstance, Nesting

__all__ = ["MAX_NODES", "sent_nodes"]

MAX_NODES = 100_000
"""Subgraphs that hold each other twice double the nodes at each level."""


def sent_nodes(nesting: Nesting, problems: list[Problem]) -> Iterator[tuple[GraphInstance, EditorNode]]:
    """All nodes that are sent, each with the scope that it lies in; what cannot be entered is added to the problems.

    A bypassed or muted instance is left out as a whole only at the root, as in the editor.
    """
    waiting = [(nesting.root, iter(nesting.root.graph.nodes.values()))]
    count = 0
    while waiting:
        scope, nodes = waiting[-1]
        node = next(nodes, None)
        if node is None:
            waiting.pop()
            continue
        is_instance = node.type in nesting.definitions
        if is_instance and scope.parent is None and not node.active:
            continue
        if not is_instance and (not node.active or node.type in VIRTUAL):
            continue
        count += 1
        if count > MAX_NODES:
            problems.append(
                Problem("too_many_nodes", f"it has more than {MAX_NODES} nodes, with those in its subgraphs")
            )
            return
        if not is_instance:
            yield scope, node
            continue
        inside = nesting.enter(scope, node)
        if inside is None:
            problems.append(_endless(scope, node))
        else:
            waiting.append((inside, iter(inside.graph.nodes.values())))


def _endless(scope: GraphInstance, node: EditorNode) -> Problem:
    if scope.depth >= MAX_DEPTH:
        code, text = "nested_too_deeply", f"subgraphs are nested more than {MAX_DEPTH} deep"
    else:
        code, text = "endless_subgraph", "this subgraph contains itself"
    return Problem(code, text, scope.prefix + node.id, node.title)
