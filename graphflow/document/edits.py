"""Changes of a graph's shape: another node, one more, one less, two in one. Each gives new nodes.

`Workflow` has them as methods. They know links, and nothing of node types.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..problem import InvalidWorkflow, Problem, did_you_mean
from .names import find
from .names import place as named_place
from .node import Link, Node, Place, as_link

__all__ = ["free_id", "insert_between", "join", "links", "replace", "without"]

Nodes = Mapping[str, Node]


def links(nodes: Nodes, sources: Container[str] | None = None) -> Iterator[tuple[Place, Link]]:
    """Every input that is linked (to one of these nodes), with what it is linked to."""
    for node_id, node in nodes.items():
        for name, value in node.inputs.items():
            # The cheap questions first: this is asked of every input of every variant.
            if isinstance(value, list) and value and type(value[0]) is str and (sources is None or value[0] in sources):
                link = as_link(value)
                if link is not None:
                    yield Place(node_id, name), link


def free_id(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or the first of `wanted_2`, `wanted_3` ... that is free."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def replace(nodes: Nodes, node: str, by: Node | str) -> dict[str, Node]:
    old = find(nodes, node)
    if isinstance(by, Node):
        return {**nodes, old: by}
    new = find(nodes, by)
    if new == old:
        raise _refused("same_node", f"node {old} cannot take its own place", old)

    loop = next((place for place, _ in links(nodes, (old,)) if place.node == new), None)
    if loop is not None:
        text = f"node {new} itself uses node {old}, so it cannot take its place"
        raise _refused("still_used", text, new, loop.input)
    changed = _relinked(nodes, (old,), lambda _, link: Link(new, link.slot))
    del changed[old]
    return changed


def insert_between(
    nodes: Nodes,
    source: str | Link,
    target: str | Place | None,
    node: Node,
    *,
    input: str,
    output: int,
    id: str,
) -> dict[str, Node]:
    """`id` is that of the new node; it must be free."""
    places = _between(nodes, source, target)
    slots = sorted({link.slot for link in places.values()})
    start = next(iter(places.values()))
    if len(slots) > 1:
        text = f"outputs {', '.join(map(str, slots))} of it are used there"
        raise _refused("ambiguous", text, start.node, hint=f"name one: gf.Link({start.node!r}, {slots[0]})")
    inserted = node.with_inputs({**node.inputs, input: list(start)})
    return {**_with_links(nodes, dict.fromkeys(places, Link(id, output))), id: inserted}


def without(nodes: Nodes, names: Sequence[str], through: Mapping[int, str]) -> dict[str, Node]:
    gone = {find(nodes, name) for name in names}
    problems: list[Problem] = []

    def past(place: Place, link: Link) -> Link:
        seen: set[Link] = set()
        while link.node in gone and place.node not in gone:
            node = nodes[link.node]
            before = as_link(node.inputs.get(through.get(link.slot, "")))
            if before is None or before in seen:
                problems.append(_still_used(place, link, node, through))
                break
            seen.add(before)
            link = before
        return link

    changed = _relinked(nodes, gone, past)
    if problems:
        raise InvalidWorkflow(problems)
    return {key: item for key, item in changed.items() if key not in gone}


def join(nodes: Nodes, other: Nodes, reserved: Iterable[str]) -> tuple[dict[str, Node], dict[str, str]]:
    """Both in one, and the ids that the nodes of `other` have in it; one whose id is taken or reserved gets a new
    id."""
    mine = {*nodes, *reserved}
    taken = {*mine, *other}
    next_number = 1 + max((int(key) for key in taken if key.isdecimal()), default=0)
    ids: dict[str, str] = {}
    for key in other:
        new = key
        if key in mine and key.isdecimal():
            new, next_number = str(next_number), next_number + 1
        elif key in mine:
            new = free_id(key, taken)
            taken.add(new)
        ids[key] = new
    moved = _relinked(other, ids, lambda _, link: Link(ids[link.node], link.slot))
    return {**nodes, **{ids[key]: item for key, item in moved.items()}}, ids


def _relinked(nodes: Nodes, sources: Container[str], change: Callable[[Place, Link], Link]) -> dict[str, Node]:
    """The nodes, with the links to these sources changed."""
    return _with_links(nodes, {place: change(place, link) for place, link in links(nodes, sources)})


def _with_links(nodes: Nodes, changed: Mapping[Place, Link]) -> dict[str, Node]:
    """The nodes with these inputs linked anew; all other nodes are shared."""
    found = dict(nodes.items())
    inputs: dict[str, dict[str, Any]] = {}
    for place, link in changed.items():
        if place.node not in inputs:
            inputs[place.node] = dict(nodes[place.node].inputs)
        inputs[place.node][place.input] = list(link)
    for node_id, new in inputs.items():
        found[node_id] = nodes[node_id].with_inputs(new)
    return found


def _between(nodes: Nodes, source: str | Link, target: str | Place | None) -> dict[Place, Link]:
    start = source if isinstance(source, Link) else None
    from_node = find(nodes, source.node if isinstance(source, Link) else source)
    found = {place: link for place, link in links(nodes, (from_node,)) if start is None or link.slot == start.slot}
    to = "any node"
    if target is not None:
        ends = _ends(nodes, target)
        to = f"{target}"
        found = {place: link for place, link in found.items() if place in ends or place.node in ends}
    if not found:
        users = sorted({str(place) for place, _ in links(nodes, (from_node,))})
        hint = f"it feeds {', '.join(users)}" if users else "nothing uses it"
        raise _refused("no_link", f"no link leads from it to {to}", from_node, hint=hint)
    return found


def _ends(nodes: Nodes, target: str | Place) -> tuple[str | Place, ...]:
    """A node where the text names one, else an input."""
    if isinstance(target, str):
        try:
            return (find(nodes, target),)
        except InvalidWorkflow:
            if "." not in target:
                raise
    return (named_place(nodes, target),)


def _still_used(place: Place, link: Link, node: Node, through: Mapping[int, str]) -> Problem:
    linked = [name for name, value in node.inputs.items() if as_link(value) is not None]
    if link.slot in through:
        text, hint = f"its input {through[link.slot]!r} is not linked", did_you_mean(through[link.slot], linked)
    else:
        shown = f" (one of {', '.join(linked)})" if linked else ""
        text = "`through` does not name an input for it"
        hint = f"state what takes its place: through={{{link.slot}: INPUT}}{shown}, or remove node {place.node} as well"
    return Problem("still_used", f"{place} uses output {link.slot} of it, and {text}", link.node, node.title, hint=hint)


def _refused(code: str, message: str, node: str, input: str | None = None, hint: str | None = None) -> InvalidWorkflow:
    return InvalidWorkflow([Problem(code, message, node, input=input, hint=hint)])
