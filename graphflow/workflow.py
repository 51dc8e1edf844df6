"""The document: a workflow in the field's API format, as an immutable value.

    {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}, "_meta": {"title": "..."}}}

`["4", 0]` is a link to output 0 of node "4". Keys that we do not know survive a load and a save.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .problem import InvalidWorkflow, Problem, did_you_mean

__all__ = ["Link", "Node", "Workflow", "as_link"]

NOTES = frozenset({"Note", "MarkdownNote"})
MAX_DEPTH = 64


class Link(NamedTuple):
    node: str
    slot: int


class Node(BaseModel):
    """One node of the document."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    class_type: str
    inputs: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")

    @property
    def title(self) -> str | None:
        title = (self.meta or {}).get("title")
        return title if isinstance(title, str) else None


def as_link(value: Any) -> Link | None:
    """The link that a JSON value stands for: a list of a node id (text) and an output number."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return Link(value[0], value[1])
    return None


class Workflow(Mapping[str, Node]):
    """An immutable mapping of node ids to nodes; changes give a new workflow that shares the rest."""

    __slots__ = ("_nodes", "extra")

    def __init__(self, nodes: Mapping[str, Node], extra: Mapping[str, Any] | None = None) -> None:
        self._nodes = dict(nodes)
        self.extra = dict(extra or {})

    def __getitem__(self, node_id: str) -> Node:
        return self._nodes[node_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"<Workflow of {len(self)} nodes>"

    def _repr_html_(self) -> str:
        from .draw import to_svg

        return to_svg(self)

    @classmethod
    def from_json(cls, data: Any) -> Workflow:
        """Read the API format; every malformed node is reported at once.

        Entries that are no nodes at all (metadata beside the nodes) are kept in `extra`.
        Raises InvalidWorkflow.
        """
        if not isinstance(data, dict):
            raise InvalidWorkflow([Problem("not_a_workflow", f"expected a JSON object of nodes, found {_kind(data)}")])
        if "nodes" in data and isinstance(data["nodes"], list):
            raise InvalidWorkflow([
                Problem("editor_format", "this is the editor's own format (nodes and links lists), not the API format",
                        hint="export it from the editor with 'Export (API)'")
            ])  # fmt: skip
        if isinstance(data.get("prompt"), dict) and not _looks_like_node(data["prompt"]):
            data = data["prompt"]
        nodes: dict[str, Node] = {}
        extra: dict[str, Any] = {}
        problems: list[Problem] = []
        for node_id, body in data.items():
            if not _looks_like_node(body):
                if isinstance(body, dict) and "inputs" in body:
                    problems.append(Problem("no_class_type", "the node has no class_type", node=node_id,
                                            hint='add "class_type": the name of a node type'))  # fmt: skip
                else:
                    extra[node_id] = body
                continue
            try:
                nodes[node_id] = Node.model_validate(body)
            except (ValidationError, RecursionError) as error:
                text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "nested too deeply"
                problems.append(Problem("malformed_node", text, node=node_id))
        if not nodes and not problems:
            problems.append(Problem("empty_workflow", "there is no node in it",
                                    hint='a node looks like {"1": {"class_type": "...", "inputs": {}}}'))  # fmt: skip
        if problems:
            raise InvalidWorkflow(problems)
        return cls(nodes, extra)

    @classmethod
    def loads(cls, text: str) -> Workflow:
        """Read JSON text; says line and column where it is not JSON."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidWorkflow([
                Problem("not_json", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
            ]) from None  # fmt: skip
        except (RecursionError, ValueError) as error:
            raise InvalidWorkflow([Problem("not_json", f"not JSON that can be read: {error}")]) from None
        return cls.from_json(data)

    @classmethod
    def load(cls, path: str | Path) -> Workflow:
        """Read a workflow from a JSON file, or from a PNG that one of our runs has saved."""
        from .formats.png import read_text_chunks

        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidWorkflow([Problem("no_file", f"cannot read {path}: {error.strerror or error}")]) from None
        if data.startswith(b"\x89PNG"):
            text = read_text_chunks(data).get("prompt")
            if text is None:
                raise InvalidWorkflow([Problem("no_workflow", f"{path} is a PNG without a workflow in it")])
            return cls.loads(text)
        try:
            return cls.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise InvalidWorkflow([Problem("not_json", f"{path} is neither UTF-8 text nor a PNG")]) from None

    def to_json(self) -> dict[str, Any]:
        nodes = {key: item.model_dump(by_alias=True, exclude_unset=True) for key, item in self._nodes.items()}
        return {**nodes, **self.extra}

    def save(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def find(self, name: str) -> str:
        """The id of the node with this id, title or (if there is only one) type. Raises InvalidWorkflow."""
        if name in self._nodes:
            return name
        for what in ("title", "class_type"):
            found = [key for key, item in self._nodes.items() if getattr(item, what) == name]
            if len(found) == 1:
                return found[0]
            if found:
                raise InvalidWorkflow([
                    Problem("ambiguous", f"{len(found)} nodes are called {name!r}", hint="name one by id: " + ", ".join(found))
                ])  # fmt: skip
        words = {word for key, item in self._nodes.items() for word in (key, item.title, item.class_type) if word}
        raise InvalidWorkflow(
            [Problem("no_node", f"no node is called {name!r}", hint=did_you_mean(name, sorted(words)))]
        )

    def set(self, where: str, value: Any) -> Workflow:
        """A copy with one input changed: `wf.set("KSampler.seed", 7)`; the node by id, title or type."""
        name, dot, key = where.rpartition(".")
        if not dot:
            raise InvalidWorkflow([Problem("bad_path", f"{where!r} does not name an input", hint="write NODE.INPUT")])
        node_id = self.find(name)
        old = self._nodes[node_id]
        new = old.model_copy(update={"inputs": {**old.inputs, key: value}})
        return Workflow({**self._nodes, node_id: new}, self.extra)


def _looks_like_node(body: Any) -> bool:
    return isinstance(body, dict) and "class_type" in body


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
