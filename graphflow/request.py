"""The nodes whose results a caller wants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias

from .problem import InvalidWorkflow, Problem, show

__all__ = ["Ref", "Target", "Targets", "name_of", "names_of"]


class Ref(Protocol):
    """A node of a graph, as a script has it."""

    @property
    def node_id(self) -> str: ...


Target: TypeAlias = str | Ref
"""A node: its id, title or type, or the node of a graph itself."""
Targets: TypeAlias = Target | Iterable[Target]


def name_of(target: object) -> str:
    """The name of a node. Raises InvalidWorkflow where it names none."""
    if isinstance(target, str):
        return target
    found = getattr(target, "node_id", None)
    if isinstance(found, str):
        return found
    raise InvalidWorkflow(
        [
            Problem(
                "not_a_node",
                f"found {show(target)}, expected a node",
                hint="name a node by its id, title or type, or give the node of the graph itself",
            )
        ]
    )


def names_of(targets: Targets | None) -> tuple[str, ...] | None:
    """The names of nodes; one that stands alone is one. Raises InvalidWorkflow."""
    if targets is None:
        return None
    if isinstance(targets, str) or hasattr(targets, "node_id") or not isinstance(targets, Iterable):
        return (name_of(targets),)
    return tuple([name_of(target) for target in targets])
