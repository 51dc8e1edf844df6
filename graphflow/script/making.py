"""Making a node: in the graph of the surrounding `with`, or a free one."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from ..nodetype.node import NodeType
from .refs import Made, NodeRef, Scope, ref_of

__all__ = ["current_graph", "current_scope", "made"]


class Taker(Protocol):
    """A graph in the making."""

    def take(self, made: Made) -> None:
        """Bind a node and the free ones that it stands on."""


current_graph: ContextVar[Taker | None] = ContextVar("graphflow_graph", default=None)
current_scope: ContextVar[Scope | None] = ContextVar("graphflow_scope", default=None)


def made(
    kind: NodeType,
    inputs: Mapping[str, Any],
    id: str | None = None,
    title: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> NodeRef:
    """Make a node in the graph of the surrounding `with`, or a free one. `inputs` hold JSON values, references to the
    Python `values`, and Values."""
    new = Made(kind, kind.name, inputs, id, title, current_scope.get(), values)
    graph = current_graph.get()
    if graph is not None:
        graph.take(new)
    return ref_of(new)
