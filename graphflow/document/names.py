"""Names for nodes and inputs: a node by its id, title or type, an input as `NODE.INPUT`."""

from __future__ import annotations

from collections.abc import Mapping

from ..problem import InvalidWorkflow, Problem, UnknownName, did_you_mean
from .node import Node, Place

__all__ = ["find", "find_all", "place"]

Nodes = Mapping[str, Node]


def find(nodes: Nodes, name: str | None = None, type: str | None = None, title: str | None = None) -> str:
    """The id of the one node that is meant: by id, title or type, or by `type=` and `title=`. Raises
    InvalidWorkflow."""
    if name is None:
        found = find_all(nodes, type=type, title=title)
        words = [f"{how} {word!r}" for how, word in (("of type", type), ("called", title)) if word is not None]
        return _the_one(nodes, found, " and ".join(words))
    if name in nodes:
        return name
    return _the_one(nodes, find_all(nodes, title=name) or find_all(nodes, type=name), f"called {name!r}", name)


def find_all(nodes: Nodes, *, type: str | None = None, title: str | None = None) -> tuple[str, ...]:
    """The ids of all nodes of this type, with this title, or both; in the document's order."""
    return tuple(
        key
        for key, item in nodes.items()
        if (type is None or item.class_type == type) and (title is None or item.title == title)
    )


def place(nodes: Nodes, where: str | Place) -> Place:
    """The input that `NODE.INPUT` names; the node by id, title or type. Raises InvalidWorkflow.

    Names of nodes and of inputs may hold dots themselves: the longest name of a node that exists is taken.
    """
    if isinstance(where, Place):
        return where if where.node in nodes else Place(find(nodes, where.node), where.input)
    parts = where.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name, key = ".".join(parts[:cut]), ".".join(parts[cut:])
        if key and (name in nodes or find_all(nodes, title=name) or find_all(nodes, type=name)):
            return Place(find(nodes, name), key)
    name, _, key = where.rpartition(".")
    if not name or not key:
        raise InvalidWorkflow([Problem("bad_path", f"{where!r} does not name an input", hint="write NODE.INPUT")])
    return Place(find(nodes, name), key)


def _the_one(nodes: Nodes, found: tuple[str, ...], words: str, name: str = "") -> str:
    if len(found) == 1:
        return found[0]
    if found:
        hint = "name one by id: " + ", ".join(found)
        raise InvalidWorkflow([Problem("ambiguous", f"{len(found)} nodes are {words}", hint=hint)])
    known = {word for key, item in nodes.items() for word in (key, item.title, item.class_type) if word}
    raise UnknownName([Problem("no_node", f"no node is {words}", hint=did_you_mean(name or words, sorted(known)))])
