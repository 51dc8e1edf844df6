"""More graph in place of a result: the nodes that an Expansion brings, named, bound and in order."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..check.validate import Binder, Bound, topological
from ..document.workflow import Link, Node, as_link
from ..nodetype.node import Expansion, NodeType
from ..plan.calls import CallResult
from ..problem import InvalidWorkflow, Problem
from ..settings import Settings

__all__ = ["Unfolded", "unfold"]


@dataclass(frozen=True, slots=True)
class Unfolded:
    nodes: dict[str, Node]
    order: dict[str, Bound]
    """The same nodes, bound, in topological order."""
    answers: list[CallResult]
    """With links to the nodes' final ids."""


def unfold(
    parent: str,
    answers: list[CallResult],
    graph: Mapping[str, Node],
    order: Mapping[str, Bound],
    types: Mapping[str, NodeType],
    settings: Settings,
) -> Unfolded:
    """The expansions of a node's calls. `graph` and `order` hold all nodes of the run so far.

    Raises InvalidWorkflow with all problems of the new nodes.
    """
    nodes: dict[str, Node] = {}
    named: list[CallResult] = []
    for call, answer in enumerate(answers):
        expansion = answer.expansion
        if expansion is None:
            named.append(answer)
            continue
        mine = _nodes_of(expansion)
        final = {key: key if expansion.ids_are_final else f"{parent}.{call}.{key}" for key in mine}
        for key, node in mine.items():
            if final[key] in graph or final[key] in nodes:
                raise InvalidWorkflow(
                    [
                        Problem(
                            "duplicate_node",
                            f"an expansion brings a node {final[key]!r}, which is there already",
                            hint="give the nodes of an expansion ids of their own",
                        )
                    ]
                )
            nodes[final[key]] = node.with_inputs(_renamed(node.inputs, final))
        outputs = tuple(_final(value, final) if isinstance(value, Link) else value for value in answer.outputs)
        named.append(answer._replace(outputs=outputs))
    everything = ChainMap(nodes, graph)  # type: ignore[arg-type]
    binder = Binder(everything, types, settings, [], expanded=True)
    bound = {key: found for key, node in nodes.items() if (found := binder.bind(key, node)) is not None}
    found_order = topological(bound)
    binder.check_types(found_order, ChainMap(found_order, order))  # type: ignore[arg-type]
    problems = binder.problems
    for answer in named:
        for value in answer.outputs if answer.expansion is not None else ():
            if isinstance(value, Link) and value.node not in everything:
                problems.append(
                    Problem("missing_node", f"an expansion's output links to {value.node!r}, which it does not bring")
                )
    if len(found_order) < len(bound):
        problems.append(
            Problem(
                "cycle",
                "the nodes of an expansion wait for each other: "
                + ", ".join(sorted(bound.keys() - found_order.keys())[:8]),
            )
        )
    if problems:
        raise InvalidWorkflow(problems)
    return Unfolded(nodes, found_order, named)


def _nodes_of(expansion: Expansion[Any]) -> dict[str, Node]:
    try:
        return {
            str(key): node if isinstance(node, Node) else Node.from_json(node) for key, node in expansion.nodes.items()
        }
    except (InvalidWorkflow, TypeError, ValueError, AttributeError) as error:
        raise InvalidWorkflow(
            [Problem("malformed_expansion", f"an expansion holds something that is not a node: {error}")]
        ) from None


def _renamed(inputs: Mapping[str, Any], final: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, value in inputs.items():
        link = value if isinstance(value, Link) else as_link(value)
        found[name] = list(_final(link, final)) if link is not None else value
    return found


def _final(link: Link, final: Mapping[str, str]) -> Link:
    """A node of the expansion by its final id; any other is one of the run."""
    return Link(final.get(link.node, link.node), link.slot)
