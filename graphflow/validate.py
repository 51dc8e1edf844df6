"""Every problem of a workflow, at once; and, where there is none, the workflow bound to its node types.

Pure: no I/O but what the folders' choices need. One pass over nodes and links, no recursion.
"""

from __future__ import annotations

import difflib
import math
import reprlib
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx

from .node import Input, NodeType
from .problem import Problem, did_you_mean
from .settings import Settings
from .types import compatible
from .workflow import NOTES, Link, Workflow, as_link

__all__ = ["Bound", "validate"]

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3


@dataclass(slots=True)
class Bound:
    """A node of the document with its type, its literals in canonical form (defaults filled in) and its links."""

    id: str
    type: NodeType
    literals: dict[str, Any]
    links: dict[str, Link]


def validate(
    workflow: Workflow, types: Mapping[str, NodeType], settings: Settings, warnings: list[Problem] | None = None
) -> tuple[dict[str, Bound], list[Problem]]:
    """The bound nodes in topological order, and all problems; run only if there are none.

    `warnings` receives what is odd and stops nothing: inputs that no node type declares (see `_unknown_input`).
    """
    warnings = [] if warnings is None else warnings
    problems: list[Problem] = []
    bound: dict[str, Bound] = {}
    choices = _Choices(settings)
    for node_id, node in workflow.items():
        if node.class_type in NOTES:
            continue
        kind = types.get(node.class_type)
        if kind is None:
            problems.append(Problem("unknown_node_type", f"there is no node type {node.class_type!r}", node_id, node.title,
                                    hint=did_you_mean(node.class_type, types)))  # fmt: skip
            continue
        bound[node_id] = _bind(node_id, node.title, node.inputs, kind, workflow, types, choices, problems,
                               warnings)  # fmt: skip

    if not any(item.type.is_output for item in bound.values()) and not problems:
        outputs = sorted(name for name, kind in types.items() if kind.is_output)
        problems.append(Problem("no_output", "no node of the workflow has an effect, so there is nothing to run",
                                hint="add one of: " + ", ".join(outputs[:8])))  # fmt: skip
    order = _topological(bound)
    if len(order) < len(bound):
        problems.extend(_cycles({key: item for key, item in bound.items() if key not in order}, workflow))
    return order, problems


class _Choices:
    """The options of each choice, asked once a validation: some of them list folders."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[int, Sequence[str]] = {}

    def __getitem__(self, item: Input) -> Sequence[str]:
        assert item.choice is not None
        key = id(item.choice)
        if key not in self._known:
            self._known[key] = item.choice.names(self._settings)
        return self._known[key]


def _bind(
    node_id: str, title: str | None, inputs: Mapping[str, Any], kind: NodeType, workflow: Workflow,
    types: Mapping[str, NodeType], choices: _Choices, problems: list[Problem], warnings: list[Problem],
) -> Bound:  # fmt: skip
    literals: dict[str, Any] = dict(kind.defaults)
    links: dict[str, Link] = {}
    title = title or kind.name

    def report(code: str, message: str, name: str, hint: str | None = None) -> None:
        problems.append(Problem(code, message, node_id, title, name, hint))

    for name, value in inputs.items():
        item = kind.inputs.get(name)
        if item is None:
            found = _unknown_input(name, value, inputs, kind, workflow)
            if found.code == "unused_input":
                warnings.append(replace(found, node=node_id, title=title))
            else:
                problems.append(replace(found, node=node_id, title=title))
            continue
        link = as_link(value)
        if link is not None:
            literals.pop(name, None)
            if _check_link(link, item, workflow, types, report):
                links[name] = link
            continue
        ok, literal = _literal(item, value, choices, report)
        if ok:
            literals[name] = literal
    for name, item in kind.inputs.items():
        if item.required and name not in inputs:
            what = "a link to a" if not item.has_widget else "a"
            report("missing_input", f"nothing is given; it needs {what} {item.type}", name)
    return Bound(node_id, kind, literals, links)


def _unknown_input(name: str, value: Any, inputs: Mapping[str, Any], kind: NodeType, workflow: Workflow) -> Problem:
    """Programs of the field leave inputs of older versions, and what their widgets show, in their files; such files must
    run, so an undeclared input is passed over with a warning. It is an error where the author must have meant something
    else: a name that is nearly that of an input which is not given, or a link to a node that is not there."""
    link = as_link(value)
    if link is not None and link.node not in workflow:
        return Problem("missing_node", f"it links to node {link.node!r}, which does not exist", input=name,
                       hint=f"and {kind.name} has no such input: remove it")  # fmt: skip
    absent = [each for each in kind.inputs if each not in inputs]
    if difflib.get_close_matches(name, absent, n=1, cutoff=0.75):
        return Problem("unknown_input", f"{kind.name} has no such input", input=name, hint=did_you_mean(name, absent))
    return Problem("unused_input", f"{kind.name} has no such input", input=name,
                   hint=did_you_mean(name, kind.inputs))  # fmt: skip


def _check_link(link: Link, item: Input, workflow: Workflow, types: Mapping[str, NodeType], report: Any) -> bool:
    source = workflow.get(link.node)
    if source is None:
        report("missing_node", f"it links to node {link.node!r}, which does not exist", item.name,
               did_you_mean(link.node, workflow))  # fmt: skip
        return False
    kind = types.get(source.class_type)
    if kind is None:
        return source.class_type not in NOTES
    if not 0 <= link.slot < len(kind.outputs):
        outputs = ", ".join(f"{i} ({out.name})" for i, out in enumerate(kind.outputs)) or "none"
        report("missing_output", f"it links to output {link.slot} of node {link.node} ({kind.name}), "
               f"which has no such output", item.name, f"its outputs: {outputs}")  # fmt: skip
        return False
    given = kind.outputs[link.slot].type
    if not compatible(given, item.type):
        report("type_mismatch", f"it needs {item.type}, but output {link.slot} of node {link.node} ({kind.name}) "
               f"is {given}", item.name)  # fmt: skip
        return False
    return True


def _literal(item: Input, value: Any, choices: _Choices, report: Any) -> tuple[bool, Any]:
    """The value in canonical form for its socket type. Nothing is bent silently: 3.9 is no INT, "false" no BOOLEAN."""
    kind = item.type
    if value is None and not item.required and item.default is None:
        return True, None
    if isinstance(value, dict) and set(value) == {"__value__"}:
        value = value["__value__"]
    if kind in ("INT", "FLOAT"):
        number = _number(value)
        if number is None or (kind == "INT" and number != int(number)):
            report(
                "wrong_type", f"found {_show(value)}, expected {'a whole' if kind == 'INT' else 'a'} number", item.name
            )
            return False, None
        low, high = (item.range.min, item.range.max) if item.range is not None else (-math.inf, math.inf)
        if kind == "FLOAT":
            low, high = max(low, -sys.float_info.max), min(high, sys.float_info.max)
        if not low <= number <= high:
            report("out_of_range", f"found {_show(value)}, expected {low} to {high}", item.name)
            return False, None
        return True, int(number) if kind == "INT" else float(number)
    if kind == "BOOLEAN":
        if isinstance(value, bool) or (type(value) is int and value in (0, 1)):
            return True, bool(value)
        report("wrong_type", f"found {_show(value)}, expected true or false", item.name)
        return False, None
    if kind == "STRING":
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return True, str(value)
        report("wrong_type", f"found {_show(value)}, expected text", item.name)
        return False, None
    if kind == "COMBO":
        options = choices[item]
        if isinstance(value, str) and value in options:
            return True, value
        hint = (
            did_you_mean(value if isinstance(value, str) else _show(value), options)
            or "there is nothing to choose from"
        )
        report("not_a_choice", f"found {_show(value)}, which is not one of the {len(options)} choices", item.name, hint)
        return False, None
    if kind == "*":
        return True, value
    report("not_a_link", f"found {_show(value)}, expected a link to a {kind}", item.name,
           'a link is ["id of a node", number of its output]')  # fmt: skip
    return False, None


def _number(value: Any) -> float | int | None:
    """A finite number, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) < 40:
        try:
            return int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def _show(value: Any) -> str:
    """A few words for a value of any size and depth."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"a number of about {round(value.bit_length() * math.log10(2))} digits"
    if isinstance(value, (list, dict)):
        text = _SHORT.repr(value)
    else:
        text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _topological(bound: Mapping[str, Bound]) -> dict[str, Bound]:
    """Kahn's algorithm in document order; nodes on or behind a cycle are left out."""
    waiting: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    for node_id, item in bound.items():
        count = 0
        for link in item.links.values():
            if link.node in bound:
                count += 1
                users.setdefault(link.node, []).append(node_id)
        waiting[node_id] = count
    ready = deque(node_id for node_id, count in waiting.items() if count == 0)
    order: dict[str, Bound] = {}
    while ready:
        node_id = ready.popleft()
        order[node_id] = bound[node_id]
        for user in users.get(node_id, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return order


def _cycles(rest: Mapping[str, Bound], workflow: Workflow) -> list[Problem]:
    """One problem for each knot of nodes that wait for each other, with a path shown."""
    graph = nx.DiGraph(
        (link.node, key) for key, item in rest.items() for link in item.links.values() if link.node in rest
    )
    place = {key: index for index, key in enumerate(rest)}
    knots = [
        knot for knot in nx.strongly_connected_components(graph)
        if len(knot) > 1 or any(graph.has_edge(key, key) for key in knot)
    ]  # fmt: skip
    problems = []
    for knot in sorted(knots, key=lambda knot: min(place[key] for key in knot)):
        path = _cycle_in(knot, graph, min(knot, key=place.__getitem__))
        shown = path if len(path) <= 12 else path[:6] + ["..."] + path[-5:]
        text = " -> ".join(shown + path[:1])
        problems.append(Problem("cycle", f"these nodes wait for each other: {text}", path[0], workflow[path[0]].title,
                                hint="remove one of these links"))  # fmt: skip
    return problems


def _cycle_in(knot: set[str], graph: nx.DiGraph, start: str) -> list[str]:
    """A cycle, each node followed by one that uses it. Walking back from any node of a knot ends in one."""
    walked: dict[str, int] = {}
    node = start
    while node not in walked:
        walked[node] = len(walked)
        node = next(source for source in graph.predecessors(node) if source in knot)
    return list(walked)[walked[node] :][::-1]
