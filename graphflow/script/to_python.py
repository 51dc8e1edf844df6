"""A workflow as a Python script that rebuilds it, ids and titles and extras included.

Nodes are made with the typed functions where those can express them, and added as they stand where they cannot: unknown
types, cycles, wrong inputs, keys that do not belong to a node. The writer finds out by making the graph along the way.
"""

from __future__ import annotations

import builtins
import json
import keyword
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..document.edits import free_id, links
from ..document.node import links_of, sources_of
from ..document.walks import depth_first
from ..document.workflow import Link, Node, Workflow, as_link
from ..nodetype.naming import (
    argument_names,
    function_names,
    grown_names,
    identifier,
    own_arguments,
    python_name,
    spread,
)
from ..nodetype.node import NodeType
from ..problem import InvalidWorkflow
from .graph import Graph
from .namespace import Nodes
from .refs import NodeRef, Value, made_of

__all__ = ["to_python"]

WIDTH = 110
MAX_UNPACKED = 6
HEAD = '''"""{title}

Printed as JSON: python THIS_FILE > workflow.json. To run it instead: `g.run()`.
"""

import graphflow as gf
{nodes}

with gf.Graph() as g:
'''
FOOT = """
if __name__ == "__main__":
    print(g.workflow.dumps())
"""


def to_python(
    workflow: Workflow, types: Mapping[str, NodeType], *, title: str = "A workflow.", folders: Iterable[str] = ()
) -> str:
    """The text of the script. `folders` are those of node packs that it has to load."""
    writer = _ScriptWriter(workflow, types)
    body = list(writer.statements())
    extra = [f"g.extra[{_literal(key)}] = {_literal(value)}" for key, value in workflow.extra.items()]
    own = tuple(folders)
    nodes = f"\nn = gf.Nodes(folders={own!r})" if own else "from graphflow_nodes import api as n"
    head = HEAD.format(title=title.replace("\\", "/").replace('"', "'"), nodes=nodes)
    lines = "".join(f"    {line}\n" for text in body for line in text.splitlines()) or "    pass\n"
    return head + lines + "".join(f"{line}\n" for line in extra) + FOOT


class _ScriptWriter:
    """Makes the graph that the script will make, and notes each step."""

    def __init__(self, workflow: Workflow, types: Mapping[str, NodeType]) -> None:
        self.workflow, self.types = workflow, types
        self.graph, self.nodes = Graph(types=types), Nodes(types)
        self.functions = {class_type: name for name, class_type in function_names(types).items()}
        self.refs: dict[str, NodeRef] = {}
        self.used: dict[str, dict[int, list[str]]] = {}
        """Node id -> number of an output -> the inputs that it feeds."""
        for place, link in links(workflow):
            self.used.setdefault(link.node, {}).setdefault(link.slot, []).append(place.input)
        self.names = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "g", "gf", "n", "_"}
        self.values: dict[Link, str] = {}
        """The expression for each output that is used."""

    def statements(self) -> Iterator[str]:
        for node_id in _order(self.workflow):
            node = self.workflow[node_id]
            call = self._call(node_id, node)
            if call is None:
                call = self._raw(node_id, node)
            yield self._assigned(node_id, call)

    def _call(self, node_id: str, node: Node) -> str | None:
        """The call of the typed function; None where no function gives this very node."""
        kind = self.types.get(node.class_type)
        title = node.title
        meta = {} if title is None else {"_meta": {"title": title}}
        body = node.to_json()
        if kind is None or body != {"class_type": node.class_type, "inputs": node.inputs, **meta}:
            return None
        if any((link := as_link(value)) and link not in self.values for value in node.inputs.values()):
            return None
        arguments = _arguments(kind, node.inputs)
        if arguments is None:
            return None
        own_id, own_title = own_arguments(kind)
        given = {name: self._handed(value) for name, value in arguments.items()}
        shown = {name: self._shown(value) for name, value in arguments.items()}
        own = {} if title is None else {own_title: title}
        if self.graph.next_id(node.class_type) != node_id:
            own[own_id] = node_id
        if set(own) & set(given):
            return None
        try:
            function = getattr(self.nodes, self.functions[kind.name])
            with self.graph:
                self.refs[node_id] = function(**given, **own)
        except InvalidWorkflow:
            return None
        made = self.graph.workflow[node_id]
        if (made.class_type, json.dumps(made.inputs)) != (node.class_type, json.dumps(node.inputs)):
            raise AssertionError(f"node {node_id} of the script is not that of the workflow")
        shown |= {name: _literal(value) for name, value in own.items()}
        return _joined(f"n.{self.functions[kind.name]}", shown)

    def _raw(self, node_id: str, node: Node) -> str:
        self.refs[node_id] = self.graph.add(node, id=node_id)
        body = node.to_json()
        return f"g.add(gf.Node.from_json({_literal(body)}), id={_literal(node_id)})"

    def _handed(self, value: Any) -> Any:
        if isinstance(value, _Grown):
            return [self._handed(each) for each in value.values]
        link = as_link(value)
        return value if link is None else self._output(link)

    def _output(self, link: Link) -> Value:
        return Value(made_of(self.refs[link.node]), link.slot)

    def _shown(self, value: Any) -> str:
        if isinstance(value, _Grown):
            return f"[{', '.join(map(self._shown, value.values))}]"
        link = as_link(value)
        return _literal(value) if link is None else self.values[link]

    def _assigned(self, node_id: str, call: str) -> str:
        """The call with the names that its outputs get, as far as they are used."""
        kind = made_of(self.refs[node_id]).kind
        used = self.used.get(node_id, {})
        outputs = [output.name for output in kind.outputs] if kind is not None else []
        slots = [slot for slot in used if kind is None or 0 <= slot < len(outputs)]
        if not slots:
            return call
        if len(outputs) == 1:
            name = self._name(self._title(node_id) or _role(used[0]) or self.workflow[node_id].class_type)
            self.values[Link(node_id, 0)] = name
            return f"{name} = {call}"
        if kind is not None and len(outputs) <= MAX_UNPACKED:
            names = [self._name(output) if slot in used else "_" for slot, output in enumerate(outputs)]
            self.values |= {Link(node_id, slot): names[slot] for slot in slots}
            return f"{', '.join(names)} = {call}"
        name = self._name(self._title(node_id) or self.workflow[node_id].class_type)
        self.values |= {Link(node_id, slot): f"{name}[{slot}]" for slot in slots if slot >= 0}
        return f"{name} = {call}"

    def _title(self, node_id: str) -> str | None:
        """The title, where it differs from the type."""
        node = self.workflow[node_id]
        kind = self.types.get(node.class_type)
        plain = {node.class_type, kind.display_name if kind is not None else ""}
        return None if node.title in plain else node.title

    def _name(self, words: str) -> str:
        name = free_id(_snake(words), self.names)
        self.names.add(name)
        return name


@dataclass(frozen=True, slots=True)
class _Grown:
    """Inputs that grow, from the first on: one list in the call."""

    values: list[Any]


def _arguments(kind: NodeType, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of the call, by the names that they have there; None where a call would read one otherwise."""
    left = list(inputs)
    found: dict[str, Any] = {}
    while left:
        name = left[0]
        head, dot, _ = name.partition(".")
        item = kind.inputs.get(head) if dot else None
        many = [key for key in left if key.startswith(head + ".")] if item is not None and item.grow is not None else []
        if (
            item is not None
            and item.grow is not None
            and many == left[: len(many)] == [f"{head}.{key}" for key in islice(grown_names(item.grow), len(many))]
        ):
            found[head] = _Grown([inputs[key] for key in many])
            left = left[len(many) :]
        else:
            python = python_name(kind, name) or name
            if list(spread(kind, argument_names(kind).get(python, python), inputs[name])) != [(name, inputs[name])]:
                return None
            found[python] = inputs[name]
            left = left[1:]
    return found


def _order(workflow: Workflow) -> list[str]:
    """The document's order, but each node after those that it links to, as far as there is no cycle."""
    return list(depth_first(workflow, sources_of(links_of(workflow)).__getitem__))


def _role(inputs: list[str]) -> str | None:
    """The role of the output for its users, where they agree: `positive`, `latent_image`."""
    return inputs[0] if len(set(inputs)) == 1 else None


def _snake(words: str) -> str:
    """`CLIPTextEncode` -> `clip_text_encode`, `Positive Prompt` -> `positive_prompt`."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", words)
    name = identifier(text).lower().strip("_")[:40].strip("_")
    return identifier(name if name[:1].isalpha() else f"node_{name}")


def _joined(function: str, arguments: Mapping[str, str]) -> str:
    plain = [f"{name}={text}" for name, text in arguments.items() if name.isidentifier()]
    odd = ", ".join(f"{_literal(name)}: {text}" for name, text in arguments.items() if not name.isidentifier())
    parts = [*plain, *([f"**{{{odd}}}"] if odd else [])]
    line = f"{function}({', '.join(parts)})"
    return line if len(line) <= WIDTH else f"{function}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _escape(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _literal(value: Any) -> str:
    """Python for a JSON value."""
    if isinstance(value, str):
        return "".join(
            letter if letter.isprintable() else _escape(letter) for letter in json.dumps(value, ensure_ascii=False)
        )
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)
