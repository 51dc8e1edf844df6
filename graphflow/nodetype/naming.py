"""Names of node types, inputs and wire types in Python, where ComfyUI's own are not Python names."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from typing import Any

from ..document.edits import free_id
from .inputs import Input, members
from .node import NodeType
from .types import Grow

__all__ = [
    "argument_names",
    "function_names",
    "grown_names",
    "identifier",
    "own_arguments",
    "possible_inputs",
    "python_name",
    "spread",
    "wire_classes",
]

# Names that a stub needs for itself.
_RESERVED = frozenset(
    {"int", "float", "str", "bool", "tuple", "Any", "Literal", "NodeRef", "Place", "Value", "Mapping", "Sequence"}
)


def function_names(types: Iterable[str]) -> dict[str, str]:
    """Python name -> node type: `Image_Resize_v2` for `Image Resize (v2)`; `_2` is added where another one has it."""
    found: dict[str, str] = {}
    for class_type in sorted(types, key=lambda name: (_function_name(name) != name, name)):
        found[free_id(_function_name(class_type), found)] = class_type
    return found


def _function_name(class_type: str) -> str:
    name = identifier(class_type)
    return f"{name}_" if keyword.iskeyword(name) or name in _RESERVED else name


def identifier(text: str) -> str:
    """The text with `_` for what a Python name cannot hold, in the form (NFKC) in which Python reads names."""
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text)).strip("_") or "_"
    name = f"_{name}" if name[0].isdigit() else name
    return name if name.isidentifier() else re.sub(r"\W+", "_", f"_{name}", flags=re.ASCII)


def wire_classes(types: Mapping[str, NodeType]) -> dict[str, str]:
    """Wire type -> the name of its class: `CONTROL_NET` -> `ControlNet`. Unions and `*` have none."""
    possible = (
        item for kind in types.values() for items in possible_inputs(kind.inputs.values()).values() for item in items
    )
    sockets = {
        socket.type
        for item in possible
        for socket in (item, *(members(item.grow.template).values() if item.grow else ()))
    }
    sockets |= {socket.type for kind in types.values() for socket in kind.outputs}
    taken = {*_RESERVED, *function_names(types)}
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
    """Python name -> input name, of those inputs that can have one; `lambda` is written `lambda_`.

    Inputs that a choice brings along have theirs, too: `resize_type.width` is `resize_type__width`.
    """
    found: dict[str, str] = {}
    for name in possible_inputs(kind.inputs.values()):
        python = python_name(kind, name)
        if python is not None:
            found.setdefault(python, name)
    return found


def possible_inputs(inputs: Iterable[Input], prefix: str = "") -> dict[str, list[Input]]:
    """All inputs that there may be, by their flat names; of those that grow, the name that they share."""
    found: dict[str, list[Input]] = {}
    for item in inputs:
        full = prefix + item.name
        found.setdefault(full, []).append(item)
        for declared in item.variants.options.values() if item.variants is not None else ():
            for name, inner in possible_inputs(members(declared).values(), full + ".").items():
                found.setdefault(name, []).extend(inner)
    return found


def python_name(kind: NodeType, name: str) -> str | None:
    """The name of the input in a call; None where Python has no such name, so that it is given by `**{name: ...}`."""
    head, dot, _ = name.partition(".")
    python = name.replace(".", "__") if dot and head in kind.inputs and kind.inputs[head].is_dynamic else name
    if not python.isidentifier() or python != unicodedata.normalize("NFKC", python):
        return None
    return f"{python}_" if keyword.iskeyword(python) else python


def spread(kind: NodeType, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The inputs that one argument stands for: `images=[a, b]` gives `images.image0` and `images.image1`."""
    if "__" in name and name not in kind.inputs:
        head = name.partition("__")[0]
        if head in kind.inputs and kind.inputs[head].is_dynamic:
            name = name.replace("__", ".")
    item = kind.inputs.get(name)
    if item is None or not isinstance(value, (list, tuple, Mapping)):
        yield name, value
    elif item.grow is not None:
        pairs = value.items() if isinstance(value, Mapping) else zip(grown_names(item.grow), value)  # noqa: B905
        yield from ((f"{name}.{key}", each) for key, each in pairs)
    elif item.rows is not None and not isinstance(value, Mapping):
        yield from ((f"{name}.{row}.{key}", each) for row, fields in enumerate(value) for key, each in fields.items())
    else:
        yield name, value


def grown_names(grow: Grow) -> Iterator[str]:
    """The names of inputs that grow, without end: those that are too many are refused like other unknown inputs."""
    return chain(grow.names, (f"{grow.prefix}{index}" for index in count(len(grow.names))))


def own_arguments(kind: NodeType) -> tuple[str, str]:
    """The names of the arguments for the node's id and title: `id_` where an input is called `id`."""
    return ("id_" if "id" in kind.inputs else "id"), ("title_" if "title" in kind.inputs else "title")
