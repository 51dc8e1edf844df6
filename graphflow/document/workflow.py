"""The document: a workflow in the field's API format, as an immutable value.

    {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}, "_meta": {"title": "..."}}}

`["4", 0]` is a link to output 0 of node "4". Keys that we do not know survive a load and a save.
A workflow never changes: what varies it (`edits.py` holds the larger operations) gives a new one that shares the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..problem import InvalidWorkflow, Problem, did_you_mean, show

if TYPE_CHECKING:
    from ..formats.object_info import NodeInfos

__all__ = ["Link", "Node", "Place", "Workflow", "as_link", "parse"]

NOTES = frozenset({"Note", "MarkdownNote"})
MAX_DEPTH = 64


class Link(NamedTuple):
    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Place:
    """One input of one node: where a value is set, or varied."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class Node(BaseModel):
    """One node of the document."""

    model_config = ConfigDict(extra="allow", frozen=True)

    class_type: str
    inputs: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")

    @property
    def title(self) -> str | None:
        title = (self.meta or {}).get("title")
        return title if isinstance(title, str) else None

    def to_json(self) -> dict[str, Any]:
        body = self.model_dump(by_alias=True, exclude_unset=True)
        if self.meta is None and "meta" in (self.model_extra or {}):
            del body["_meta"]  # an unknown key with the name of the field counts as the field
        return body


def as_link(value: Any) -> Link | None:
    """The link that a JSON value stands for: a list of a node id (text) and an output number, which may be written 0.0."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        slot = value[1]
        if type(slot) is int or (type(slot) is float and slot.is_integer()):
            return Link(value[0], int(slot))
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

    def items(self) -> ItemsView[str, Node]:
        return self._nodes.items()

    def __repr__(self) -> str:
        return f"<Workflow of {len(self)} nodes>"

    def _repr_html_(self) -> str:
        from ..look.draw import to_svg

        return to_svg(self)

    @classmethod
    def from_json(cls, data: Any, infos: NodeInfos | None = None) -> Workflow:
        """Read the API format; every malformed node is reported at once.

        Entries that are no nodes at all (metadata beside the nodes) are kept in `extra`. The editor's own format is
        read too where descriptions of the node types are given (`Engine.load` gives those of its registry).
        Raises InvalidWorkflow.
        """
        workflow, problems = cls.read(data, infos)
        if problems:
            raise InvalidWorkflow(problems)
        return workflow

    @classmethod
    def read(cls, data: Any, infos: NodeInfos | None = None) -> tuple[Workflow, list[Problem]]:
        """As `from_json`: the nodes that are well-formed, and what is wrong with the others.

        Raises InvalidWorkflow where it is no workflow at all.
        """
        from ..formats.editor import is_editor_format, to_prompt

        if not isinstance(data, dict):
            raise InvalidWorkflow([Problem("not_a_workflow", f"expected a JSON object of nodes, found {_kind(data)}")])
        if is_editor_format(data):
            if infos is None:
                raise InvalidWorkflow([
                    Problem("editor_format", "this is the editor's own format (nodes and links lists), not the API format",
                            hint="load it with an engine, which knows node types: Engine().load(...), or convert it first")
                ])  # fmt: skip
            converted = to_prompt(data, infos)
            if converted.problems:
                raise InvalidWorkflow(converted.problems)
            data = converted.prompt
        nodes: dict[str, Node] = {}
        extra: dict[str, Any] = {}
        problems: list[Problem] = []
        wrapped = data.get("prompt")
        if isinstance(wrapped, dict) and not any(_looks_like_node(body) for body in data.values()):
            extra = {key: value for key, value in data.items() if key not in ("prompt", *wrapped)}
            data = wrapped
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
                problems += _malformed(node_id, error)
        if not nodes and not problems:
            raise InvalidWorkflow([Problem("empty_workflow", "there is no node in it",
                                    hint='a node looks like {"1": {"class_type": "...", "inputs": {}}}')])  # fmt: skip
        return cls(nodes, extra), problems

    @classmethod
    def loads(cls, text: str, infos: NodeInfos | None = None) -> Workflow:
        """Read JSON text; says line and column where it is not JSON."""
        return cls.from_json(parse(text), infos)

    @classmethod
    def load(cls, path: str | Path, infos: NodeInfos | None = None) -> Workflow:
        """Read a workflow from a JSON file, or from a picture that carries one (PNG, WebP, JPEG, AVIF)."""
        from ..formats.files import read_file

        return cls.from_json(read_file(path).data, infos)

    def to_json(self) -> dict[str, Any]:
        nodes = {key: item.to_json() for key, item in self._nodes.items()}
        return {**nodes, **self.extra}

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.dumps() + "\n", encoding="utf-8")

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False)

    def find(self, name: str | None = None, *, type: str | None = None, title: str | None = None) -> str:
        """The id of the one node that is meant: by id, title or type, or by `type=` and `title=`. Raises InvalidWorkflow."""
        if name is None:
            found = self.find_all(type=type, title=title)
            words = [f"{how} {word!r}" for how, word in (("of type", type), ("called", title)) if word is not None]
            return self._the_one(found, " and ".join(words))
        if name in self._nodes:
            return name
        return self._the_one(self.find_all(title=name) or self.find_all(type=name), f"called {name!r}", name)

    def find_all(self, *, type: str | None = None, title: str | None = None) -> tuple[str, ...]:
        """The ids of all nodes of this type, with this title, or both; in the document's order."""
        return tuple(
            key
            for key, item in self._nodes.items()
            if (type is None or item.class_type == type) and (title is None or item.title == title)
        )

    def _the_one(self, found: tuple[str, ...], words: str, name: str = "") -> str:
        if len(found) == 1:
            return found[0]
        if found:
            hint = "name one by id: " + ", ".join(found)
            raise InvalidWorkflow([Problem("ambiguous", f"{len(found)} nodes are {words}", hint=hint)])
        known = {word for key, item in self._nodes.items() for word in (key, item.title, item.class_type) if word}
        raise InvalidWorkflow([
            Problem("no_node", f"no node is {words}", hint=did_you_mean(name or words, sorted(known)))
        ])  # fmt: skip

    def place(self, where: str | Place) -> Place:
        """The input that `NODE.INPUT` names; the node by id, title or type. Raises InvalidWorkflow.

        Names of nodes and of inputs may hold dots themselves: the longest name of a node that exists is taken.
        """
        if isinstance(where, Place):
            return where if where.node in self._nodes else Place(self.find(where.node), where.input)
        parts = where.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            name, key = ".".join(parts[:cut]), ".".join(parts[cut:])
            if key and (name in self._nodes or self.find_all(title=name) or self.find_all(type=name)):
                return Place(self.find(name), key)
        name, _, key = where.rpartition(".")
        if not name or not key:
            raise InvalidWorkflow([Problem("bad_path", f"{where!r} does not name an input", hint="write NODE.INPUT")])
        return Place(self.find(name), key)

    def set(self, where: str | Place, value: Any) -> Workflow:
        """A copy with one input changed: `wf.set("KSampler.seed", 7)`."""
        place = self.place(where)
        old = self._nodes[place.node]
        new = old.model_copy(update={"inputs": {**old.inputs, place.input: plain_number(value)}})
        return self._like({**self._nodes, place.node: new})

    def set_all(self, changes: Mapping[str, Any] | Mapping[Place, Any]) -> Workflow:
        """A copy with several inputs changed; each node that changes is copied once."""
        by_node: dict[str, dict[str, Any]] = {}
        for where, value in changes.items():
            place = self.place(where)
            by_node.setdefault(place.node, {})[place.input] = plain_number(value)
        nodes = dict(self._nodes)
        for node_id, inputs in by_node.items():
            old = nodes[node_id]
            nodes[node_id] = old.model_copy(update={"inputs": {**old.inputs, **inputs}})
        return self._like(nodes)

    def replace(self, node: str, by: Node | str) -> Workflow:
        """A copy with another node in this place: a new one under the same id, or, named, one that is there already.

        Whatever linked to the node links to the other one, with the same numbers of outputs.
        """
        from .edits import replace

        return replace(self, node, by)

    def insert_between(
        self, source: str | Link, target: str | Place | None, node: Node, *, input: str, output: int = 0,
        id: str | None = None,
    ) -> Workflow:  # fmt: skip
        """A copy in which what `source` gives to `target` passes through a new node, by its `input` and `output`.

            wf.insert_between("CheckpointLoaderSimple", "KSampler.model",
                              gf.Node(class_type="ModelSamplingDiscrete", inputs={...}), input="model")

        `target` is an input, a node, or None for everything that `source` feeds. Raises InvalidWorkflow where nothing
        links them, or where several outputs do and `source` does not say which (`gf.Link("4", 1)`).
        """
        from .edits import insert_between

        return insert_between(self, source, target, node, input, output, id)

    def without(self, *nodes: str, through: Mapping[int, str] | None = None) -> Workflow:
        """A copy without these nodes.

        `through={0: "model"}`: what used output 0 gets what fed the input `model`. Raises InvalidWorkflow where another
        node uses an output for which nothing is said.
        """
        from .edits import without

        return without(self, nodes, through or {})

    def join(self, other: Source) -> tuple[Workflow, dict[str, str]]:
        """Both in one, and the ids that the nodes of `other` have in it; a node whose id is taken gets a new one."""
        from .edits import join

        return join(self, as_workflow(other))

    def __add__(self, other: Source) -> Workflow:
        return self.join(other)[0]

    def _like(self, nodes: dict[str, Node]) -> Workflow:
        """A workflow of these nodes; the dict is taken over, not copied."""
        new = Workflow.__new__(Workflow)
        new._nodes, new.extra = nodes, self.extra
        return new


class HoldsWorkflow(Protocol):
    """Such as a Graph."""

    @property
    def workflow(self) -> Workflow: ...


Source = Workflow | HoldsWorkflow | Mapping[str, Any] | str | Path
"""What stands for a workflow where one is asked for: itself, a graph, its JSON, or the file that it is in."""


def as_workflow(source: Source, infos: NodeInfos | None = None) -> Workflow:
    """The workflow that is meant; `infos` are needed for the editor's own format. Raises InvalidWorkflow."""
    if isinstance(source, Workflow):
        return source
    if isinstance(source, (str, Path)):
        return Workflow.load(source, infos)
    return Workflow.from_json(dict(source), infos) if isinstance(source, Mapping) else source.workflow


def plain_number(value: Any) -> Any:
    """A number of an array library as one of Python's, which JSON can hold; all else as it is."""
    if type(value).__module__ != "builtins" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def parse(text: str) -> Any:
    """JSON text as data; says line and column where it is not JSON. Raises InvalidWorkflow."""
    try:
        data = json.loads(text, object_pairs_hook=_object)
        if "\\ud" in text.lower():
            json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InvalidWorkflow([
            Problem("not_json", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
        ]) from None  # fmt: skip
    except UnicodeEncodeError:
        raise InvalidWorkflow([Problem("not_json", "a text in it is half of a character (a lone surrogate)")]) from None
    except (RecursionError, ValueError) as error:
        raise InvalidWorkflow([Problem("not_json", f"not JSON that can be read: {error}")]) from None
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON allows a key twice and readers drop one in silence; a node would be lost that way, so it is refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise InvalidWorkflow([
            Problem("duplicate_key", f"the key {twice!r} stands twice in one object", hint="rename or remove one of them")
        ])  # fmt: skip
    return found


def _looks_like_node(body: Any) -> bool:
    return isinstance(body, dict) and "class_type" in body


_EXPECTED = {
    "class_type": "the name of a node type",
    "inputs": "an object of inputs",
    "_meta": 'an object, as {"title": ...}',
}


def _malformed(node_id: str, error: ValidationError | RecursionError) -> list[Problem]:
    if isinstance(error, RecursionError):
        return [Problem("malformed_node", "it is nested too deeply", node_id)]
    found = {str(each["loc"][0]): each["input"] for each in error.errors()}
    return [
        Problem("malformed_node", f"its {name} is {show(value)}, expected {_EXPECTED[name]}", node_id)
        for name, value in found.items()
    ]


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
