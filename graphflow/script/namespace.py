"""Every node type as a Python function: `n = gf.Nodes(registry)`, then `n.KSampler(model=..., seed=1)`.

`graphflow_nodes.api` is this for all installed packs. What is wrong with a call is raised at once, as Problems; only
choices that depend on folders (files of models) wait for the run, which may take place on another machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..check.validate import validate
from ..document.workflow import Node, Place, Workflow, as_link, plain_number
from ..nodetype.inputs import Input, flatten
from ..nodetype.naming import argument_names, function_names, own_arguments, possible_inputs, spread, wire_classes
from ..nodetype.node import NodeType
from ..problem import InvalidWorkflow, Problem, UnknownName, did_you_mean
from ..registry import Registry
from ..settings import Settings
from ..values import given as value_given
from .making import made
from .refs import NodeRef, Value, made_of, slot_of

__all__ = ["Nodes"]


class Nodes:
    """The functions of these node types, as attributes. A type whose name is no Python name has `_` for what is not.

    The wire types are there, too (`n.Model`, `n.Latent`), for the annotations of your own functions.
    """

    def __init__(
        self,
        types: Mapping[str, NodeType] | Iterable[object] | None = None,
        *,
        folders: tuple[str | Path, ...] = (),
    ) -> None:
        """`types`, or functions that were declared with `@node`, or else all that is installed and what these folders
        of node packs hold."""
        if types is None:
            types = Registry.installed([Path(folder) for folder in folders])
        self._types = types if isinstance(types, Mapping) else Registry(types)
        self._names = function_names(self._types)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kind = self._types.get(name) or self._types.get(self._names.get(name, ""))
        if kind is None:
            if name in wire_classes(self._types).values():
                return Value
            if name.startswith("__"):
                raise AttributeError(name)
            hint = did_you_mean(name, self._names)
            raise UnknownName([Problem("unknown_node_type", f"there is no node type {name!r}", hint=hint)])
        return _function(kind, name)

    def __dir__(self) -> list[str]:
        return sorted(self._names)


def _function(kind: NodeType, called: str) -> Callable[..., NodeRef]:
    names = argument_names(kind)
    id_name, title_name = own_arguments(kind)

    def make(*positional: Any, **given: Any) -> NodeRef:
        if positional:
            first = next(iter(names), "input")
            raise InvalidWorkflow(
                [Problem("positional", f"inputs of {kind.name} are given by name", hint=f"write {first}=...")]
            )
        node_id, title = given.pop(id_name, None), given.pop(title_name, None)
        node_id = None if node_id is None else str(node_id)
        values: dict[str, Any] = {}
        inputs = {
            key: _plain(value, values)
            for name, each in given.items()
            for key, value in spread(kind, names.get(name, name), each)
        }
        inputs |= {
            key: _plain(kind.defaults[key], values) for key in kind.inputs if key in kind.wanted and key not in inputs
        }
        problems = _problems(kind, inputs, values, node_id or kind.name, title)
        if problems:
            raise InvalidWorkflow(problems)
        return made(kind, inputs, node_id, title, values)

    make.__name__ = make.__qualname__ = called
    make.__doc__ = kind.help
    make.__signature__ = _signature(kind, names, (id_name, title_name))  # type: ignore[attr-defined]
    return make


def _signature(kind: NodeType, names: Mapping[str, str], own: tuple[str, str]) -> inspect.Signature:
    possible = possible_inputs(kind.inputs.values())
    by_name = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty
            if possible[key][0].required and "." not in key
            else possible[key][0].default,
            annotation=possible[key][0].type,
        )
        for name, key in names.items()
    ]
    extra = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in own]
    return inspect.Signature([*by_name, *extra])


def _plain(value: Any, values: dict[str, Any]) -> Any:
    """The JSON value of a literal; a list that would read as a link is wrapped, as ComfyUI does. A Python value goes
    into `values`, and stands in the JSON by its reference."""
    known = None if isinstance(value, NodeRef) else value_given(value)
    if known is not None:
        values[known.reference] = known.value
        return known.reference
    return {"__value__": value} if as_link(value) is not None else plain_number(value)


def _problems(
    kind: NodeType, inputs: Mapping[str, Any], values: Mapping[str, Any], called: str, title: str | None
) -> list[Problem]:
    """All that is wrong with the node, judged with its direct sources alone."""
    problems: list[Problem] = []

    def report(code: str, message: str, name: str, hint: str | None) -> None:
        problems.append(Problem(code, message, called, title, name, hint))

    declared = {item.name: item for item in flatten(kind.inputs.values(), inputs)} if kind.is_dynamic else kind.inputs
    for name in inputs if kind.extra is None else ():
        if name not in declared:
            report("unknown_input", f"{kind.name} has no such input", name, did_you_mean(name, declared))
    nodes: dict[str, Node] = {}
    types = {kind.name: kind}
    plain: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Value):
            source = made_of(value)
            if source.kind is not None:
                types.setdefault(source.class_type, source.kind)
            key = source.id if source.graph is not None and source.id else f"{source.class_type}#{name}"
            nodes[key] = Node(class_type=source.class_type)
            plain[name] = [key, slot_of(value)]
        elif isinstance(value, NodeRef):
            outputs = made_of(value).output_names
            hint = f"name one: {', '.join(outputs)}" if outputs else None
            text = f"{value!r} is a node with {len(outputs) or 'no'} outputs, not an output"
            report("not_an_output", text, name, hint)
            plain[name] = None
        elif isinstance(value, Place):
            hint = "give an output of that node by its name; dir(node) lists its inputs and outputs"
            report("not_an_output", f"{value} is an input of a node, not an output", name, hint)
            plain[name] = None
        else:
            plain[name] = value
    reported = {problem.input for problem in problems}
    here = "\0"
    nodes[here] = Node(class_type=kind.name, inputs=plain)
    for problem in validate(Workflow(nodes), types, Settings(device="cpu", values=values))[1]:
        name = problem.input or ""
        if problem.node == here and name not in reported and not _waits(declared.get(name), plain.get(name), problem):
            problems.append(replace(problem, node=called, title=title))
    return problems


def _waits(item: Input | None, value: Any, problem: Problem) -> bool:
    """Whether only the machine that runs it can judge: its folders hold other files."""
    listed = item is not None and item.choice is not None and callable(item.choice.options)
    return problem.code == "not_a_choice" and listed and isinstance(value, str)
