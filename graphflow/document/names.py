"""Names for nodes and inputs: a node by its id, title or type, an input as `NODE.INPUT`."""

from __future__ import annotations

from collections.abc import Mapping

from ..problem import InvalidWorkflow, Problem, UnknownName, did_you_mean, show
from .node import Node, Place, as_link

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
    if not isinstance(where, str):
        hint = "write NODE.INPUT, or the place that a node of a graph has for its input: sampler.seed"
        raise InvalidWorkflow([Problem("bad_path", f"found {show(where)}, expected the name of an input", hint=hint)])
    parts = where.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name, key = ".".join(parts[:cut]), ".".join(parts[cut:])
        if key and (name in nodes or find_all(nodes, title=name) or find_all(nodes, type=name)):
            return Place(find(nodes, name), key)
    name, _, key = where.rpartition(".")
    if not name or not key:
        raise InvalidWorkflow(
            [Problem("bad_path", f"{where!r} does not name an input", hint=_whole_name(nodes, where))]
        )
    return Place(find(nodes, name), key)


def _whole_name(nodes: Nodes, word: str) -> str:
    """The names of inputs that a node or an input alone may stand for."""
    by_input = [f"{item.title or item.class_type}.{word}" for item in nodes.values() if word in item.inputs]
    by_node = [
        f"{word}.{name}"
        for key, item in nodes.items()
        if word in (key, item.title, item.class_type)
        for name, value in item.inputs.items()
        if as_link(value) is None
    ]
    likely = list(dict.fromkeys([*by_input, *by_node]))[:8]
    return f"write {' or '.join(likely)}" if likely else "write NODE.INPUT"


def _the_one(nodes: Nodes, found: tuple[str, ...], words: str, name: str = "") -> str:
    if len(found) == 1:
        return found[0]
    if found:
        hint = "name one by id: " + ", ".join(found)
        raise InvalidWorkflow([Problem("ambiguous", f"{len(found)} nodes are {words}", hint=hint)])
    known = {word for key, item in nodes.items() for word in (key, item.title, item.class_type) if word}
    raise UnknownName([Problem("no_node", f"no node is {words}", hint=did_you_mean(name or words, sorted(known)))])
