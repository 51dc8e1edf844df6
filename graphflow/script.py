"""Graphs as Python values: nodes are made by calling functions, and what a call gives is handed to the next one.

    with gf.Graph() as g:
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        text = n.CLIPTextEncode(clip=clip, text="a red apple")
    g.save("apple.json")

Inside `with`, each node joins that graph as it is made. Outside, nodes are values on their own, and `Graph.of(out)`
is the graph of all that `out` stands on. `text.text` is the Place of an input, `loader.CLIP` an output by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .node import NodeType
from .problem import InvalidWorkflow, Problem, did_you_mean
from .workflow import Node, Place, Workflow

if TYPE_CHECKING:
    from .engine import Engine, Result

__all__ = ["Graph", "NodeHandle", "Outputs", "Place", "Value", "made", "subgraph"]

P = ParamSpec("P")
R = TypeVar("R")


class Graph:
    """A workflow in the making. Ids are the node types, numbered where there are several: `KSampler`, `KSampler_2`."""

    def __init__(self, workflow: Workflow | None = None, *, types: Mapping[str, NodeType] | None = None) -> None:
        """Go on from a workflow, or from nothing. `types` are asked about its nodes; the installed ones if not given."""
        self.extra: dict[str, Any] = dict(workflow.extra) if workflow is not None else {}
        self._nodes: dict[str, Node] = dict(workflow) if workflow is not None else {}
        self._types = types
        self._handles: dict[str, Made] = {}
        self._counts: dict[str, int] = {}
        self._scopes: dict[Scope, str] = {}
        self._tokens: list[Token[Graph | None]] = []

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """The graph of a workflow file of any kind, ids and titles kept."""
        from .engine import Engine

        return cls(Engine().load(path))

    @classmethod
    def of(cls, *results: NodeHandle) -> Graph:
        """The graph of these results: all nodes that they stand on, in the order in which they are needed."""
        graph = cls()
        for result in results:
            graph._take(result._made)
        return graph

    def __enter__(self) -> Graph:
        self._tokens.append(_graph.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _graph.reset(self._tokens.pop())

    @property
    def workflow(self) -> Workflow:
        """What has been made so far, as an immutable value."""
        return Workflow(self._nodes, self.extra)

    def save(self, path: str | Path) -> None:
        """Write it as JSON in the API format."""
        self.workflow.save(path)

    def run(self, engine: Engine | None = None, **options: Any) -> Result:
        """Run it on this engine, or on one of its own; options as in `Engine.run`."""
        from .engine import run

        return run(self.workflow, **options) if engine is None else engine.run(self.workflow, **options)

    def add(self, node: Node, id: str | None = None) -> Any:
        """Add a node as the document writes it, unchecked; its links are `[id, slot]`."""
        kind = self._known_types.get(node.class_type)
        return handle(self._keep(Made(kind, node.class_type, node.inputs, id, None, _scope.get()), node))

    def next_id(self, class_type: str) -> str:
        """The id that the next node of this type gets if none is given."""
        return self._next(_word(class_type))[1]

    def __getitem__(self, name: str) -> Any:
        """The node with this id, title or type. Raises InvalidWorkflow."""
        return handle(self._made(self.workflow.find(name)))

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"<Graph of {len(self)} nodes>"

    def _repr_html_(self) -> str:
        return self.workflow._repr_html_()

    @property
    def _known_types(self) -> Mapping[str, NodeType]:
        if self._types is None:
            from .registry import Registry

            self._types = Registry.installed()
        return self._types

    def _made(self, node_id: str) -> Made:
        if node_id not in self._handles:
            node = self._nodes[node_id]
            made = Made(self._known_types.get(node.class_type), node.class_type, node.inputs, node_id, None, None)
            made.graph = self
            self._handles[node_id] = made
        return self._handles[node_id]

    def _take(self, made: Made) -> None:
        """Bind a node and the free ones that it stands on, those first; no recursion, so that long chains are fine."""
        stack = [made]
        while stack:
            top = stack[-1]
            if top.graph is not None and top.graph is not self:
                raise InvalidWorkflow([
                    Problem("other_graph", f"node {top.id} ({top.class_type}) belongs to another graph",
                            hint="make all nodes inside one `with`, or join the workflows: one.workflow + other.workflow")
                ])  # fmt: skip
            waiting = [] if top.graph else [made for made in top.sources if made.graph is not self]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            if top.graph is None:
                inputs = {name: _json(value) for name, value in top.inputs.items()}
                meta = {} if top.title is None else {"_meta": {"title": top.title}}
                self._keep(top, Node(class_type=top.class_type, inputs=inputs, **meta))

    def _keep(self, made: Made, node: Node) -> Made:
        made.id = self._id(made)
        made.graph = self
        self._nodes[made.id] = node
        self._handles[made.id] = made
        return made

    def _id(self, made: Made) -> str:
        prefix = self._prefix(made.scope)
        if made.id is None:
            return self._numbered(prefix + _word(made.class_type))
        if prefix + made.id in self._nodes:
            raise InvalidWorkflow([
                Problem("id_taken", "there is a node with this id already", prefix + made.id, hint="give another id")
            ])  # fmt: skip
        return prefix + made.id

    def _prefix(self, scope: Scope | None) -> str:
        if scope is None:
            return ""
        if scope not in self._scopes:
            self._scopes[scope] = self._numbered(self._prefix(scope.outer) + scope.name)
        return self._scopes[scope] + ":"

    def _numbered(self, wanted: str) -> str:
        count, name = self._next(wanted)
        self._counts[wanted] = count
        return name

    def _next(self, wanted: str) -> tuple[int, str]:
        count = self._counts.get(wanted, 0)
        while True:
            count += 1
            name = wanted if count == 1 else f"{wanted}_{count}"
            if name not in self._nodes:
                return count, name


class NodeHandle:
    """A node that was made. Attributes: its outputs by name, and the Place of each input (`sampler.seed`).

    Where an input is called like an output, or is no Python name, write `gf.Place(handle.node_id, "name")`.
    """

    __slots__ = ("_made",)

    def __init__(self, made: Made) -> None:
        self._made = made

    @property
    def node_id(self) -> str:
        """Its id in the graph. Raises InvalidWorkflow if it is in none yet."""
        if self._made.graph is None or self._made.id is None:
            raise InvalidWorkflow([
                Problem("no_graph", f"this {self._made.class_type} is in no graph yet, so it has no id",
                        hint="make it inside `with gf.Graph() as g:`, or put it into one: gf.Graph.of(out)")
            ])  # fmt: skip
        return self._made.id

    if not TYPE_CHECKING:  # the stubs say which attributes there are, so that a checker knows of no other

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            made = self._made
            outputs = made.output_names
            if name in outputs:
                return Value(made, outputs.index(name))
            plain = name.removesuffix("_")
            for key in (name, plain, plain.replace("__", ".")):
                if key in made.inputs or (made.kind is not None and key in made.kind.inputs):
                    return Place(self.node_id, key)
            known = [*outputs, *made.inputs, *(made.kind.inputs if made.kind is not None else ())]
            hint = did_you_mean(name, dict.fromkeys(known))
            raise AttributeError(f"{made.class_type} has no output or input {name!r}" + (f"; {hint}" if hint else ""))

    def __dir__(self) -> list[str]:
        kind = self._made.kind
        return ["node_id", *self._made.output_names, *(kind.inputs if kind is not None else self._made.inputs)]

    def __repr__(self) -> str:
        return f"<{self._made.class_type}{'' if self._made.id is None else ' ' + self._made.id}>"


class Value(NodeHandle):
    """One output of a node: what is handed to an input of another one."""

    __slots__ = ("_slot",)

    def __init__(self, made: Made, slot: int) -> None:
        super().__init__(made)
        self._slot = slot

    def __iter__(self) -> Iterator[Value]:
        raise TypeError(f"this is one output of a {self._made.class_type}: there is nothing to unpack")

    def __repr__(self) -> str:
        names = self._made.output_names
        return super().__repr__()[:-1] + f" {names[self._slot] if self._slot < len(names) else self._slot}>"


class Outputs(NodeHandle):
    """A node with several outputs (or of an unknown type): they unpack, and have numbers and names."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Value]:
        return (Value(self._made, slot) for slot in range(len(self)))

    def __len__(self) -> int:
        return len(self._made.output_names)

    def __getitem__(self, slot: int) -> Value:
        if self._made.kind is not None and not -len(self) <= slot < len(self):
            raise IndexError(f"{self._made.class_type} has {len(self)} outputs")
        return Value(self._made, slot % len(self) if self._made.kind is not None else slot)


def subgraph(function: Callable[P, R]) -> Callable[P, R]:
    """A function that makes nodes, as one unit: the ids of what it makes begin with its name.

        @gf.subgraph
        def refine(model, latent, steps=4): ...

    Called twice, it makes `refine:KSampler` and `refine_2:KSampler`; so a change inside it moves no id outside.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _scope.set(Scope(function.__name__, _scope.get()))
        try:
            return function(*args, **kwargs)
        finally:
            _scope.reset(token)

    return call


def made(kind: NodeType, inputs: Mapping[str, Any], id: str | None = None, title: str | None = None) -> NodeHandle:
    """Make a node in the graph of the surrounding `with`, or a free one. `inputs` hold JSON values and Values."""
    new = Made(kind, kind.name, inputs, id, title, _scope.get())
    graph = _graph.get()
    if graph is not None:
        graph._take(new)
    return handle(new)


class Scope:
    """One call of a subgraph."""

    __slots__ = ("name", "outer")

    def __init__(self, name: str, outer: Scope | None) -> None:
        self.name, self.outer = name, outer


class Made:
    """A node, in a graph or free. Its id is decided when it joins a graph."""

    __slots__ = ("class_type", "graph", "id", "inputs", "kind", "scope", "title")

    def __init__(
        self, kind: NodeType | None, class_type: str, inputs: Mapping[str, Any], id: str | None, title: str | None,
        scope: Scope | None,
    ) -> None:  # fmt: skip
        self.kind, self.class_type, self.inputs = kind, class_type, inputs
        self.id, self.title, self.scope = id, title, scope
        self.graph: Graph | None = None

    @property
    def output_names(self) -> list[str]:
        return [output.name for output in self.kind.outputs] if self.kind is not None else []

    @property
    def sources(self) -> list[Made]:
        return [value._made for value in self.inputs.values() if isinstance(value, Value)]


_graph: ContextVar[Graph | None] = ContextVar("graphflow_graph", default=None)
_scope: ContextVar[Scope | None] = ContextVar("graphflow_scope", default=None)


def handle(made: Made) -> NodeHandle:
    if made.kind is None or len(made.kind.outputs) > 1:
        return Outputs(made)
    return Value(made, 0) if made.kind.outputs else NodeHandle(made)


def _word(class_type: str) -> str:
    return re.sub(r"\W+", "_", class_type)


def _json(value: Any) -> Any:
    return [value._made.id, value._slot] if isinstance(value, Value) else value
