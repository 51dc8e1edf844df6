"""A node of the document, its links, and the places of its inputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..problem import InvalidWorkflow, Problem, show
from .frozen import FrozenDict, frozen, thawed

__all__ = ["NOTES", "Link", "Node", "Place", "as_link", "links_of", "plain_number", "sources_of"]

NOTES = frozenset({"Note", "MarkdownNote"})
"""Node types that hold a text for people and do not run."""


class Link(NamedTuple):
    """An output of a node, by its number."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Place:
    """One input of one node: where a value is set, or varied."""

    node: str
    input: str
    value: Any = field(default=None, compare=False, repr=False)
    """The value there when the place was made, where a graph made it (`sampler.seed.value`)."""

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class Node:
    """One node of the document; immutable. Keys that we do not know are kept.

    `Node(class_type="KSampler", inputs={"seed": 1, "model": ["4", 0]}, _meta={"title": "First pass"})`
    """

    __slots__ = ("_body", "class_type", "inputs")

    _body: Mapping[str, Any]
    class_type: str
    inputs: Mapping[str, Any]
    """JSON values, and links as `[node id, number of the output]`."""

    def __init__(self, class_type: str, inputs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Raises InvalidWorkflow where a part is not of its type."""
        stated = {} if inputs is None else {"inputs": inputs}
        self._set({"class_type": class_type, **stated, **more})

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Node:
        """The node of a JSON object. Raises InvalidWorkflow."""
        node = cls.__new__(cls)
        node._set(dict(body))
        return node

    def _set(self, body: dict[str, Any]) -> None:
        inputs = FrozenDict(_inputs_of(body))
        if "inputs" in body:
            body["inputs"] = inputs
        for held in (inputs, body):
            for key, value in held.items():
                if type(value) is list or type(value) is dict:
                    dict.__setitem__(held, key, frozen(value))
        set_once = object.__setattr__
        set_once(self, "_body", body)
        set_once(self, "class_type", body["class_type"])
        set_once(self, "inputs", inputs)

    @property
    def meta(self) -> Mapping[str, Any] | None:
        """The entry `_meta`: facts for people, such as the title."""
        meta: Mapping[str, Any] | None = self._body.get("_meta")
        return meta

    @property
    def title(self) -> str | None:
        meta = self._body.get("_meta")
        title = meta.get("title") if meta else None
        return title if isinstance(title, str) else None

    def with_inputs(self, inputs: Mapping[str, Any]) -> Node:
        """The same node with these inputs in place of its own."""
        return Node.from_json({**self._body, "inputs": inputs})

    def with_type(self, class_type: str, inputs: Mapping[str, Any]) -> Node:
        """The same node, title and unknown keys included, as one of another type."""
        return Node.from_json({**self._body, "class_type": class_type, "inputs": inputs})

    def to_json(self) -> dict[str, Any]:
        """A JSON object of its own, which may be written into."""
        whole: dict[str, Any] = thawed(self._body)
        return whole

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a node does not change: {name!r} cannot be set; workflow.set() makes a changed workflow")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self._whole() == other._whole()

    __hash__ = None  # type: ignore[assignment]

    def _whole(self) -> dict[str, Any]:
        """The body with its defaults stated."""
        return {"inputs": {}, "_meta": None, **self._body}

    def __reduce__(self) -> tuple[Any, ...]:
        return Node.from_json, (self._body,)

    def __repr__(self) -> str:
        return f"Node({', '.join(f'{key}={value!r}' for key, value in self._body.items())})"

    @classmethod
    def model_validate(cls, body: Mapping[str, Any]) -> Node:
        """The former name of `from_json`, which scripts written by earlier versions use."""
        warnings.warn("Node.model_validate is now called Node.from_json", DeprecationWarning, stacklevel=2)
        return cls.from_json(body)


def _inputs_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs of a JSON object that is a node. Raises InvalidWorkflow."""
    inputs, meta = body.get("inputs", {}), body.get("_meta")
    wrong = []
    if not isinstance(body.get("class_type"), str):
        wrong.append(("class_type", body.get("class_type"), "the name of a node type"))
    if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
        wrong.append(("inputs", inputs, "an object of inputs"))
    if meta is not None and not isinstance(meta, Mapping):
        wrong.append(("_meta", meta, 'an object, as {"title": ...}'))
    if wrong:
        problems = [
            Problem("malformed_node", f"its {name} is {show(value)}, expected {text}") for name, value, text in wrong
        ]
        raise InvalidWorkflow(problems)
    found: Mapping[str, Any] = inputs
    return found


def as_link(value: Any) -> Link | None:
    """The link that a JSON value stands for: a list of a node id (text) and an output number, which may be written
    0.0."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        slot = value[1]
        if type(slot) is int or (type(slot) is float and slot.is_integer()):
            return Link(value[0], int(slot))
    return None


def plain_number(value: Any) -> Any:
    """A number of an array library as one of Python's, which JSON can hold; all else as it is."""
    if type(value).__module__ != "builtins" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def links_of(nodes: Mapping[str, Node]) -> dict[str, dict[str, Link]]:
    """For each node its linked inputs, as far as the links end in nodes that exist."""
    return {
        key: {
            name: link
            for name, value in node.inputs.items()
            if (link := as_link(value)) is not None and link.node in nodes
        }
        for key, node in nodes.items()
    }


def sources_of(links: Mapping[str, Mapping[str, Link]]) -> dict[str, list[str]]:
    """The graph of these links: each node with the nodes that it is linked to."""
    return {key: [link.node for link in each.values()] for key, each in links.items()}
