"""A workflow as an immutable value: a mapping of node ids to nodes.

What varies a workflow gives a new one that shares the rest. `api` reads and writes its JSON, `names` finds nodes by
name, `edits` holds the larger changes, `walks` follows its links.
"""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ..problem import InvalidWorkflow, Problem, UnknownName, did_you_mean
from ..values.given import given as given_value
from . import api, edits, names
from .api import parse
from .node import NOTES, Link, Node, Place, as_link, plain_number

__all__ = [
    "NOTES",
    "HoldsWorkflow",
    "Link",
    "Node",
    "Place",
    "Reader",
    "Source",
    "Workflow",
    "as_link",
    "parse",
    "plain_number",
]


class Workflow(Mapping[str, Node]):
    """An immutable mapping of node ids to nodes; changes give a new workflow that shares the rest."""

    __slots__ = ("_nodes", "embedded", "extra", "given")

    reader: ClassVar[Reader]
    """Reads the sources of workflows, and draws one. `graphflow.sources` sets the one that knows all formats."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        extra: Mapping[str, Any] | None = None,
        given: Mapping[str, Any] | None = None,
        embedded: Mapping[str, Any] | None = None,
    ) -> None:
        """`extra` holds the entries of the JSON that are not nodes, `given` the Python values that stand in it by their
        references, `embedded` what else the image carries that it was read from: the editor's file (`workflow`), and
        the record of what made it (`graphflow`)."""
        self._nodes = dict(nodes)
        self.extra = dict(extra or {})
        self.given: dict[str, Any] = dict(given or {})
        self.embedded: dict[str, Any] = dict(embedded or {})

    def __getitem__(self, node_id: str) -> Node:
        """The node with this id. Raises UnknownName; `wf[wf.find("KSampler")]` takes a title or a type."""
        try:
            return self._nodes[node_id]
        except KeyError:
            name = str(node_id)
            named = names.find_all(self._nodes, title=name) or names.find_all(self._nodes, type=name)
            hint = f"workflow.find({name!r}) is the id {named[0]!r}" if named else did_you_mean(name, self._nodes)
            raise UnknownName([Problem("no_node", f"no node has the id {node_id!r}", hint=hint)]) from None

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def get(self, node_id: str, default: Any = None) -> Any:
        return self._nodes.get(node_id, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def items(self) -> ItemsView[str, Node]:
        return self._nodes.items()

    def __repr__(self) -> str:
        return f"<Workflow of {len(self)} nodes>"

    def _repr_html_(self) -> str | None:
        return self.reader.to_html(self)

    @classmethod
    def read(cls, data: Any) -> tuple[Workflow, list[Problem]]:
        """The well-formed nodes of the API format, and what is wrong with the others.

        Raises InvalidWorkflow where it is not a workflow at all.
        """
        parts = api.read(data)
        return cls(parts.nodes, parts.extra), parts.problems

    @classmethod
    def from_json(cls, data: Any) -> Workflow:
        """Read JSON data of any known format; every malformed node is reported at once. Raises InvalidWorkflow.

        Entries that are not nodes (metadata beside the nodes) are kept in `extra`.
        """
        return cls.reader.from_json(data)

    @classmethod
    def loads(cls, text: str) -> Workflow:
        """Read JSON text; the error names line and column where it is not JSON. Raises InvalidWorkflow."""
        return cls.from_json(parse(text))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Workflow:
        """Read a workflow file: API format, the editor's format (with the node types that are installed), or an image
        that carries either (PNG, WebP, JPEG, AVIF). Raises InvalidWorkflow."""
        return cls.reader.load(path)

    def to_json(self) -> dict[str, Any]:
        """The API format."""
        nodes = {key: item.to_json() for key, item in self._nodes.items()}
        return {**nodes, **self.extra}

    def save(self, path: str | Path) -> None:
        """Write it as JSON text in the API format."""
        Path(path).write_text(self.dumps() + "\n", encoding="utf-8")

    def dumps(self) -> str:
        """JSON text in the API format."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False)

    def find(self, name: str | None = None, *, type: str | None = None, title: str | None = None) -> str:
        """The id of the one node that is meant: by id, title or type, or by `type=` and `title=`. Raises
        InvalidWorkflow."""
        return names.find(self._nodes, name, type, title)

    def find_all(self, *, type: str | None = None, title: str | None = None) -> tuple[str, ...]:
        """The ids of all nodes of this type, with this title, or both; in the document's order."""
        return names.find_all(self._nodes, type=type, title=title)

    def place(self, where: str | Place) -> Place:
        """The input that `NODE.INPUT` names; the node by id, title or type. Raises InvalidWorkflow.

        Names of nodes and of inputs may hold dots themselves: the longest name of a node that exists is taken.
        """
        return names.place(self._nodes, where)

    def set(self, where: str | Place, value: Any) -> Workflow:
        """A copy with one input changed: `wf.set("KSampler.seed", 7)`, `wf.set("LoadImage.image", Path("photo.jpg"))`.

        An image of Pillow, an array, a tensor or a Path is carried in `given`, and stands in the workflow by its
        digest.
        """
        return self.set_all({self.place(where): value})

    def set_all(self, changes: Mapping[str, Any] | Mapping[Place, Any]) -> Workflow:
        """A copy with several inputs changed; each node that changes is copied once."""
        by_node: dict[str, dict[str, Any]] = {}
        values: dict[str, Any] = {}
        for where, value in changes.items():
            place = self.place(where)
            known = given_value(value)
            if known is not None:
                values[known.reference] = known.value
            literal = plain_number(value) if known is None else known.reference
            by_node.setdefault(place.node, {})[place.input] = literal
        nodes = dict(self._nodes)
        for node_id, inputs in by_node.items():
            old = nodes[node_id]
            nodes[node_id] = old.with_inputs({**old.inputs, **inputs})
        return self._like(nodes, values)

    def unset(self, *where: str | Place) -> Workflow:
        """A copy in which these inputs are not given: the node's own defaults hold again, and a link is cut."""
        nodes = dict(self._nodes)
        for each in where:
            place = self.place(each)
            old = nodes[place.node]
            if place.input not in old.inputs:
                text = f"{old.class_type} is not given this input"
                hint = did_you_mean(place.input, old.inputs)
                raise UnknownName([Problem("no_input", text, place.node, old.title, place.input, hint)])
            nodes[place.node] = old.with_inputs({key: item for key, item in old.inputs.items() if key != place.input})
        return self._like(nodes)

    def set_type(self, node: str, class_type: str) -> Workflow:
        """A copy in which a node is of another type; its inputs, its title and the links to it stay."""
        key = self.find(node)
        old = self._nodes[key]
        return self._like({**self._nodes, key: old.with_type(class_type, old.inputs)})

    def replace(self, node: str, by: Node | str) -> Workflow:
        """A copy with another node in this place: a new one under the same id, or, named, one that is there already.

        Whatever linked to the node links to the other one, with the same numbers of outputs.
        """
        return self._like(edits.replace(self._nodes, node, by))

    def insert_between(
        self,
        source: str | Link,
        target: str | Place | None,
        node: Node,
        *,
        input: str,
        output: int = 0,
        id: str | None = None,
    ) -> Workflow:
        """A copy in which what `source` gives to `target` passes through a new node, by its `input` and `output`.

            wf.insert_between("CheckpointLoaderSimple", "KSampler.model",
                              gf.Node(class_type="ModelSamplingDiscrete", inputs={...}), input="model")

        `target` is an input, a node, or None for everything that `source` feeds. Raises InvalidWorkflow where nothing
        links them, or where several outputs do and `source` does not name one (`gf.Link("4", 1)`).
        """
        if id is not None and id in self._nodes:
            raise InvalidWorkflow(
                [Problem("id_taken", "there is a node with this id already", id, hint="give another id")]
            )
        new = id or edits.free_id(node.class_type, self._nodes)
        return self._like(edits.insert_between(self._nodes, source, target, node, input=input, output=output, id=new))

    def without(self, *nodes: str, through: Mapping[int, str] | None = None) -> Workflow:
        """A copy without these nodes.

        `through={0: "model"}`: what used output 0 gets what fed the input `model`. Raises InvalidWorkflow where another
        node uses an output for which `through` has no entry.
        """
        return self._like(edits.without(self._nodes, nodes, through or {}))

    def join(self, other: Source) -> tuple[Workflow, dict[str, str]]:
        """Both in one, and the ids that the nodes of `other` have in it; a node whose id is taken gets a new one."""
        added = self.reader.workflow(other)
        nodes, ids = edits.join(self._nodes, added, self.extra)
        extra = {key: value for key, value in added.extra.items() if key not in nodes}
        return Workflow(nodes, {**extra, **self.extra}, {**added.given, **self.given}, self.embedded), ids

    def __add__(self, other: Source) -> Workflow:
        return self.join(other)[0]

    def _like(self, nodes: dict[str, Node], given: Mapping[str, Any] | None = None) -> Workflow:
        """A workflow of these nodes; the dict is taken over, not copied."""
        new = Workflow.__new__(Workflow)
        new._nodes, new.extra, new.embedded = nodes, self.extra, self.embedded
        new.given = {**self.given, **given} if given else self.given
        return new


class HoldsWorkflow(Protocol):
    """An object that has a workflow, such as a Graph."""

    @property
    def workflow(self) -> Workflow: ...


Source = Workflow | HoldsWorkflow | Mapping[str, Any] | str | PathLike[str]
"""A workflow, or something that stands for one: a graph, its JSON, or the file that it is in."""


class Reader:
    """Makes workflows from their sources. This one knows the API format, and does not draw."""

    def workflow(self, source: Source) -> Workflow:
        """The workflow that is meant. Raises InvalidWorkflow."""
        if isinstance(source, Workflow):
            return source
        if isinstance(source, (str, PathLike)):
            return self.load(source)
        return self.from_json(dict(source)) if isinstance(source, Mapping) else source.workflow

    def from_json(self, data: Any) -> Workflow:
        workflow, problems = Workflow.read(data)
        if problems:
            raise InvalidWorkflow(problems)
        return workflow

    def load(self, path: str | PathLike[str]) -> Workflow:
        return self.from_json(parse(api.text_of(api.read_bytes(path), fspath(path))))

    def to_html(self, workflow: Workflow) -> str | None:
        """A drawing for a notebook, or None."""
        return None


Workflow.reader = Reader()
