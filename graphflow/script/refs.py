"""References to nodes: a node function returns one. It has the outputs of the node and the places of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..document.workflow import Link, Place
from ..nodetype.node import NodeType
from ..problem import InvalidWorkflow, Problem, UnknownName, did_you_mean, show

__all__ = ["Made", "NodeRef", "Outputs", "Scope", "Value", "ref_of", "link_of", "made_of", "slot_of"]


class NodeRef:
    """A reference to a node. Attributes: its outputs by name, and the Place of each input (`sampler.seed`).

    Where an input is called like an output, or is not a Python name, write `gf.Place(ref.node_id, "name")`.
    """

    __slots__ = ("_made",)

    def __init__(self, made: Made) -> None:
        self._made = made

    @property
    def node_id(self) -> str:
        """Its id in the graph. Raises InvalidWorkflow if it is in none yet."""
        if self._made.graph is None or self._made.id is None:
            raise InvalidWorkflow(
                [
                    Problem(
                        "no_graph",
                        f"this {self._made.class_type} is in no graph yet, so it has no id",
                        hint="make it inside `with gf.Graph() as g:`, or put it into one: gf.Graph.of(out)",
                    )
                ]
            )
        return self._made.id

    if not TYPE_CHECKING:  # the stubs list the attributes, so a checker knows of no other

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            made = self._made
            outputs = made.output_names
            if name in outputs:
                return Value(made, outputs.index(name))
            plain = name.removesuffix("_")
            for key in (name, plain, plain.replace("__", ".")):
                if key in made.inputs or key in made.declared:
                    return Place(self.node_id, key, made.value_of(key))
            known = [*outputs, *made.inputs, *made.declared]
            text = f"{made.class_type} has no output or input {name!r}"
            raise UnknownName([Problem("no_input", text, hint=did_you_mean(name, dict.fromkeys(known)))])

        def __setattr__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                return object.__setattr__(self, name, value)
            text = f"a node that is made does not change: {name} cannot be set"
            hint = f"make it with {name}=..., or run with inputs={{node.{name}: {show(value)}}}"
            raise InvalidWorkflow([Problem("made_already", text, self._made.id, self._made.title, name, hint)])

    def _not_yet(self, *_: object) -> Any:
        """The error for a function that is called with an output of a node, in place of a node of that function."""
        raise TypeError(
            f"{self!r} is an output of a node: it has a value only when the graph runs. To compute with it, declare "
            "the "
            'function with @gf.node("A Name"), make the graph with gf.Graph(nodes=[function]), and call it as '
            "graph.nodes.A_Name(...)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __matmul__ = _not_yet
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __abs__ = __bytes__ = _not_yet
    __float__ = __int__ = __array__ = __neg__ = __pow__ = __lt__ = __le__ = __gt__ = __ge__ = _not_yet

    def __dir__(self) -> list[str]:
        return sorted({"node_id", *self._made.output_names, *self._made.inputs, *self._made.declared})

    def __repr__(self) -> str:
        return f"<{self._made.class_type}{'' if self._made.id is None else ' ' + self._made.id}>"


class Value(NodeRef):
    """One output of a node: what is handed to an input of another one."""

    __slots__ = ("_slot",)

    def __init__(self, made: Made, slot: int) -> None:
        super().__init__(made)
        self._slot = slot

    def __iter__(self) -> Iterator[Value]:
        raise TypeError(f"this is one output of a {self._made.class_type}: there is nothing to unpack")

    def __getitem__(self, key: object) -> Any:
        self._not_yet()

    def __repr__(self) -> str:
        names = self._made.output_names
        return super().__repr__()[:-1] + f" {names[self._slot] if self._slot < len(names) else self._slot}>"


class Outputs(NodeRef):
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


def ref_of(made: Made) -> NodeRef:
    """A node with one output is that output as well."""
    if made.kind is None or len(made.kind.outputs) > 1:
        return Outputs(made)
    return Value(made, 0) if made.kind.outputs else NodeRef(made)


def made_of(ref: NodeRef) -> Made:
    """The node that it refers to."""
    return ref._made


def slot_of(value: Value) -> int:
    """The number of the output."""
    return value._slot


def link_of(value: Value) -> Link:
    """Raises InvalidWorkflow if its node is in no graph yet."""
    return Link(value.node_id, value._slot)


class Scope:
    """One call of a subgraph."""

    __slots__ = ("name", "outer")

    def __init__(self, name: str, outer: Scope | None) -> None:
        self.name, self.outer = name, outer


class Made:
    """A node, in a graph or free. Its id is decided when it joins a graph."""

    __slots__ = ("class_type", "graph", "id", "inputs", "kind", "scope", "title", "values")

    def __init__(
        self,
        kind: NodeType | None,
        class_type: str,
        inputs: Mapping[str, Any],
        id: str | None,
        title: str | None,
        scope: Scope | None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind, self.class_type, self.inputs = kind, class_type, inputs
        self.id, self.title, self.scope = id, title, scope
        self.values = values or {}
        """The Python values that its inputs name."""
        self.graph: object | None = None
        """The Graph that it is in."""

    @property
    def output_names(self) -> list[str]:
        return [output.name for output in self.kind.outputs] if self.kind is not None else []

    @property
    def declared(self) -> list[str]:
        """The inputs of its type that stand for one value."""
        inputs = self.kind.inputs.values() if self.kind is not None else ()
        return [item.name for item in inputs if item.grow is None and item.rows is None]

    def value_of(self, name: str) -> Any:
        """The value that an input is given, or the default of its type."""
        if name in self.inputs or self.kind is None:
            return self.inputs.get(name)
        return self.kind.defaults.get(name)

    @property
    def sources(self) -> list[Made]:
        return [value._made for value in self.inputs.values() if isinstance(value, Value)]
