"""Every node type as a Python function: `n = gf.Nodes(registry)`, then `n.KSampler(model=..., seed=1)`.

`graphflow_nodes.api` is this for all installed packs. What is wrong with a call is raised at once, as Problems; only
choices that depend on folders (files of models) wait for the run, which may take place on another machine.
"""

from __future__ import annotations

import inspect
import keyword
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .node import NodeType
from .problem import InvalidWorkflow, Problem, did_you_mean
from .registry import Registry
from .script import NodeHandle, Value, made
from .settings import Settings
from .validate import validate
from .workflow import Node, Workflow, as_link

__all__ = ["Nodes", "argument_names", "function_name", "identifier", "own_arguments", "wire_classes"]

# Names that a stub needs for itself.
_RESERVED = frozenset({"int", "float", "str", "bool", "tuple", "Any", "Literal", "NodeHandle", "Place", "Value"})


class Nodes:
    """The functions of these node types, as attributes. A type whose name is no Python name has `_` for what is not.

    The wire types are there, too (`n.Model`, `n.Latent`), for the annotations of your own functions.
    """

    def __init__(self, types: Mapping[str, NodeType] | None = None, *, folders: tuple[str | Path, ...] = ()) -> None:
        """`types`, or else all that is installed and what these folders of node packs hold."""
        self._types = types if types is not None else Registry.installed([Path(folder) for folder in folders])
        self._names = {function_name(name): name for name in self._types}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kind = self._types.get(name) or self._types.get(self._names.get(name, ""))
        if kind is None:
            if name in wire_classes(self._types).values():
                return Value
            hint = did_you_mean(name, self._names)
            raise AttributeError(f"there is no node type {name!r}" + (f"; {hint}" if hint else ""))
        return _function(kind)

    def __dir__(self) -> list[str]:
        return sorted(self._names)


def function_name(class_type: str) -> str:
    """`Image Resize (v2)` -> `Image_Resize_v2`."""
    name = identifier(class_type)
    return f"{name}_" if keyword.iskeyword(name) or name in _RESERVED else name


def identifier(text: str) -> str:
    """The text with `_` for what a Python name cannot hold, in the form (NFKC) in which Python reads names."""
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text)).strip("_") or "_"
    name = f"_{name}" if name[0].isdigit() else name
    return name if name.isidentifier() else re.sub(r"\W+", "_", f"_{name}", flags=re.ASCII)


def wire_classes(types: Mapping[str, NodeType]) -> dict[str, str]:
    """Wire type -> the name of its class: `CONTROL_NET` -> `ControlNet`. Unions and `*` have none."""
    sockets = {socket.type for kind in types.values() for socket in kind.inputs.values()}
    sockets |= {socket.type for kind in types.values() for socket in kind.outputs}
    taken = {*_RESERVED, *map(function_name, types)}
    found: dict[str, str] = {}
    for wire in sorted({part.strip() for socket in sockets for part in socket.split(",")} - {"*", ""}):
        parts = [
            part.capitalize() if part.isupper() else part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", wire)
        ]
        name = identifier("".join(parts))
        while name in taken:
            name += "_"
        taken.add(name)
        found[wire] = name
    return found


def argument_names(kind: NodeType) -> dict[str, str]:
    """Python name -> input name, of those inputs that can have one; `lambda` is written `lambda_`."""
    found = {}
    for name in kind.inputs:
        if name.isidentifier() and name == unicodedata.normalize("NFKC", name):
            found[f"{name}_" if keyword.iskeyword(name) else name] = name
    return found


def own_arguments(kind: NodeType) -> tuple[str, str]:
    """What the id and the title of the node are called: `id_` where an input is called `id`."""
    return ("id_" if "id" in kind.inputs else "id"), ("title_" if "title" in kind.inputs else "title")


def _function(kind: NodeType) -> Callable[..., NodeHandle]:
    names = argument_names(kind)
    id_name, title_name = own_arguments(kind)

    def make(*positional: Any, **given: Any) -> NodeHandle:
        if positional:
            first = next(iter(names), "input")
            raise InvalidWorkflow([
                Problem("positional", f"inputs of {kind.name} are given by name", hint=f"write {first}=...")
            ])  # fmt: skip
        node_id, title = given.pop(id_name, None), given.pop(title_name, None)
        inputs = {names.get(name, name): _plain(value) for name, value in given.items()}
        problems = _problems(kind, inputs, node_id or kind.name, title)
        if problems:
            raise InvalidWorkflow(problems)
        return made(kind, inputs, node_id, title)

    make.__name__ = make.__qualname__ = function_name(kind.name)
    make.__doc__ = kind.help
    make.__signature__ = _signature(kind, names, (id_name, title_name))  # type: ignore[attr-defined]
    return make


def _signature(kind: NodeType, names: Mapping[str, str], own: tuple[str, str]) -> inspect.Signature:
    by_name = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if kind.inputs[key].required else kind.inputs[key].default,
            annotation=kind.inputs[key].type,
        )
        for name, key in names.items()
    ]  # fmt: skip
    extra = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in own]
    return inspect.Signature([*by_name, *extra])


def _plain(value: Any) -> Any:
    """The JSON value of a literal; a list that would read as a link is wrapped, as the field does."""
    return {"__value__": value} if as_link(value) is not None else value


def _problems(kind: NodeType, inputs: Mapping[str, Any], called: str, title: str | None) -> list[Problem]:
    """All that is wrong with the node, judged with its direct sources alone."""
    problems: list[Problem] = []

    def report(code: str, message: str, name: str, hint: str | None) -> None:
        problems.append(Problem(code, message, called, title, name, hint))

    for name in inputs:
        if name not in kind.inputs:
            report("unknown_input", f"{kind.name} has no such input", name, did_you_mean(name, kind.inputs))
    nodes: dict[str, Node] = {}
    types = {kind.name: kind}
    plain: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Value):
            source = value._made
            types.setdefault(source.class_type, source.kind) if source.kind else None
            key = source.id if source.graph is not None and source.id else f"{source.class_type}#{name}"
            nodes[key] = Node(class_type=source.class_type)
            plain[name] = [key, value._slot]
        elif isinstance(value, NodeHandle):
            outputs = value._made.output_names
            hint = f"name one: {', '.join(outputs)}" if outputs else None
            report(
                "not_an_output", f"{value!r} is a node with {len(outputs) or 'no'} outputs, not an output", name, hint
            )
            plain[name] = None
        else:
            plain[name] = value
    told = {problem.input for problem in problems}
    here = "\0"
    nodes[here] = Node(class_type=kind.name, inputs=plain)
    for problem in validate(Workflow(nodes), types, Settings(device="cpu"))[1]:
        name = problem.input or ""
        if problem.node == here and name not in told and not _waits(kind, name, plain.get(name), problem):
            problems.append(replace(problem, node=called, title=title))
    return problems


def _waits(kind: NodeType, name: str, value: Any, problem: Problem) -> bool:
    """Whether only the machine that runs it can judge: its folders hold other files."""
    item = kind.inputs.get(name)
    listed = item is not None and item.choice is not None and callable(item.choice.options)
    return problem.code == "not_a_choice" and listed and isinstance(value, str)
