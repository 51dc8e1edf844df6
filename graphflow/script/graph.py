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
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from contextvars import Token
from functools import wraps
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..document.walks import depth_first
from ..document.workflow import Node, Workflow
from ..nodetype.node import NodeType
from ..problem import InvalidWorkflow, Problem, show
from ..registry import Registry
from ..sources import as_workflow
from .making import current_graph, current_scope
from .refs import Made, NodeRef, Scope, Value, link_of, made_of, ref_of

if TYPE_CHECKING:
    from ..cluster.remote import Remote
    from ..engine import Engine, Result
    from ..events import Event
    from ..request import Targets
    from ..run_once import CacheOption
    from .namespace import Nodes

__all__ = ["Graph", "subgraph"]

P = ParamSpec("P")
R = TypeVar("R")


class Graph:
    """A workflow in the making. Ids are the node types, numbered where there are several: `KSampler`, `KSampler_2`."""

    def __init__(
        self,
        workflow: Workflow | None = None,
        *,
        types: Mapping[str, NodeType] | None = None,
        nodes: Iterable[object] | Callable[..., Any] = (),
    ) -> None:
        """Go on from a workflow, or from nothing. `types` are asked about its nodes; the installed ones if not
        given. `nodes`: functions of the script itself that are declared with `@gf.node`; `graph.nodes` makes nodes of
        them, and `graph.run()` knows them. Raises InvalidNode where one is not declared."""
        self.own_types = Registry((nodes,) if callable(nodes) else nodes)
        """The node types of the script itself."""
        self.values: dict[str, Any] = dict(workflow.given) if workflow is not None else {}
        """The Python values that its inputs name."""
        self.extra: dict[str, Any] = dict(workflow.extra) if workflow is not None else {}
        self._nodes: dict[str, Node] = dict(workflow) if workflow is not None else {}
        self._types = types
        self._known: dict[str, Made] = {}
        self._counts: dict[str, int] = {}
        self._scopes: dict[Scope, str] = {}
        self._tokens: list[Token[Any]] = []
        ids = [node_id.split(":") for node_id in self._nodes]
        self._groups = {":".join(parts[:depth]) for parts in ids for depth in range(1, len(parts))}
        """The subgraphs of the workflow that it goes on from; a new call is another one."""

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """The graph of a workflow file of any kind, ids and titles kept."""
        return cls(as_workflow(path))

    @classmethod
    def of(cls, *results: NodeRef) -> Graph:
        """The graph of these results: all nodes that they stand on, in the order in which they are needed."""
        graph = cls()
        for result in results:
            graph.take(made_of(result))
        return graph

    def __enter__(self) -> Graph:
        self._tokens.append(current_graph.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        current_graph.reset(self._tokens.pop())

    @property
    def workflow(self) -> Workflow:
        """The nodes made so far, as an immutable value."""
        return Workflow(self._nodes, self.extra, self.values)

    @property
    def nodes(self) -> Nodes:
        """Every node type as a function, those of the script itself among them: `graph.nodes.MyNode(...)`."""
        from .namespace import Nodes

        return Nodes(self._known_types)

    def save(self, path: str | Path) -> None:
        """Write it as JSON in the API format."""
        self.workflow.save(path)

    def run(
        self,
        engine: Engine | Remote | None = None,
        *,
        cache: CacheOption = "shared",
        targets: Targets | None = None,
        inputs: Mapping[Any, Any] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """Run it on this engine or server (`gf.connect`), or on an engine of its own, whose cache is `cache` as in
        `gf.run`; the other options are those of `Engine.run`. The node types of the script itself are known to an
        engine, not to a server."""
        from ..engine import Engine
        from ..run_once import engine_for

        if isinstance(engine, (NodeRef, Mapping, str)):
            hint = "targets=[node] names what to run, inputs={sampler.seed: 7} other values"
            raise InvalidWorkflow([Problem("not_an_engine", f"found {show(engine)}, expected an engine", hint=hint)])
        with nullcontext(engine) if engine is not None else engine_for(cache) as runner:
            if isinstance(runner, Engine):
                runner = runner.with_nodes(self.own_types)
            return runner.run(
                self.workflow,
                targets=targets,
                inputs=inputs,
                on_event=on_event,
                cancel=cancel,
                timeout=timeout,
                refresh=refresh,
                run_id=run_id,
                extra_pnginfo=extra_pnginfo,
            )

    def add(self, node: Node, id: str | None = None) -> Any:
        """Add a node as the document writes it, unchecked; its links are `[id, slot]`."""
        kind = self._known_types.get(node.class_type)
        return ref_of(self._keep(Made(kind, node.class_type, node.inputs, id, None, current_scope.get()), node))

    def next_id(self, class_type: str) -> str:
        """The id that the next node of this type gets if none is given."""
        return self._next(_word(class_type))[1]

    def __getitem__(self, name: str) -> Any:
        """The node with this id, title or type. Raises InvalidWorkflow."""
        return ref_of(self._made(self.workflow.find(name)))

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"<Graph of {len(self)} nodes>"

    def _repr_html_(self) -> str | None:
        return self.workflow._repr_html_()

    @property
    def _known_types(self) -> Mapping[str, NodeType]:
        if self._types is None:
            self._types = Registry.installed()
        return {**self._types, **self.own_types} if self.own_types else self._types

    def _made(self, node_id: str) -> Made:
        if node_id not in self._known:
            node = self._nodes[node_id]
            made = Made(self._known_types.get(node.class_type), node.class_type, node.inputs, node_id, None, None)
            made.graph = self
            self._known[node_id] = made
        return self._known[node_id]

    def take(self, made: Made) -> None:
        """Bind a node and the free ones that it stands on, those first."""
        bound = depth_first([made], lambda each: each.sources if each.graph is None else ())
        for each in bound:
            if each.graph is not None and each.graph is not self:
                raise InvalidWorkflow(
                    [
                        Problem(
                            "other_graph",
                            f"node {each.id} ({each.class_type}) belongs to another graph",
                            hint="make all nodes in one `with`, or join the workflows: one.workflow + other.workflow",
                        )
                    ]
                )
        for each in bound:
            if each.graph is None:
                inputs = {
                    name: list(link_of(value)) if isinstance(value, Value) else value
                    for name, value in each.inputs.items()
                }
                meta = {} if each.title is None else {"_meta": {"title": each.title}}
                self._keep(each, Node(class_type=each.class_type, inputs=inputs, **meta))

    def _keep(self, made: Made, node: Node) -> Made:
        made.id = self._id(made)
        made.graph = self
        self._nodes[made.id] = node
        self._known[made.id] = made
        self.values.update(made.values)
        return made

    def _id(self, made: Made) -> str:
        prefix = self._prefix(made.scope)
        if made.id is None:
            return self._numbered(prefix + _word(made.class_type))
        if self._is_taken(prefix + made.id):
            raise InvalidWorkflow(
                [Problem("id_taken", "there is a node with this id already", prefix + made.id, hint="give another id")]
            )
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
            if not self._is_taken(name):
                return count, name

    def _is_taken(self, name: str) -> bool:
        return name in self._nodes or name in self._groups or name in self.extra


def subgraph(function: Callable[P, R]) -> Callable[P, R]:
    """A function that makes nodes, as one unit: the ids of what it makes begin with its name.

        @gf.subgraph
        def refine(model, latent, steps=4): ...

    Called twice, it makes `refine:KSampler` and `refine_2:KSampler`; so a change inside it moves no id outside.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        token = current_scope.set(Scope(function.__name__, current_scope.get()))
        try:
            return function(*args, **kwargs)
        finally:
            current_scope.reset(token)

    return call


def _word(class_type: str) -> str:
    return re.sub(r"\W+", "_", class_type)
