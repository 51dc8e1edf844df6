"""Descriptions of node types in the shape that ComfyUI's editor and clients read: GET /object_info.

    {"KSampler": {"input": {"required": {"model": ["MODEL", {}], "seed": ["INT", {"default": 0, ...}], ...}},
                  "input_order": {"required": ["model", "seed", ...]}, "output": ["LATENT"], ...}}

`describe` writes them from our node types. `NodeInfo` reads them, wherever they come from: conversion of editor files
works from descriptions alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..nodetype.inputs import OPTIONAL, Input, members
from ..nodetype.node import NodeType
from ..settings import Settings

__all__ = [
    "InputInfo",
    "NodeInfo",
    "NodeInfos",
    "OutputInfo",
    "RegistryInfos",
    "describe",
    "describe_all",
    "read_all",
    "read_inputs",
]


def describe(kind: NodeType, settings: Settings) -> dict[str, Any]:
    """One node type. Inputs with a widget count as required, as in ComfyUI: their default is the widget's."""
    groups: dict[str, dict[str, Any]] = {"required": {}}
    for item in kind.inputs.values():
        shown = item.has_widget or item.free  # an editor has a widget of its own for a free literal
        required = item.required or (shown and item.default not in (None, OPTIONAL))
        groups.setdefault("required" if required else "optional", {})[item.name] = _spec(item, settings)
    matches = any(out.match for out in kind.outputs)
    if kind.hidden:
        groups["hidden"] = dict(kind.hidden)
    return {
        "input": groups,
        "input_order": {name: list(group) for name, group in groups.items()},
        "output": ["COMFY_MATCHTYPE_V3" if out.match else out.type for out in kind.outputs],
        "output_is_list": [out.each for out in kind.outputs],
        "output_name": [out.name for out in kind.outputs],
        "name": kind.name,
        "display_name": kind.display_name,
        "description": kind.help,
        "python_module": _module(kind),
        "category": kind.category or "other",  # an editor takes a node of no category for a deprecated one
        "output_node": kind.is_output,
        **({"output_matchtypes": [out.match.name if out.match else None for out in kind.outputs]} if matches else {}),
        **({"output_tooltips": [out.help for out in kind.outputs]} if any(out.help for out in kind.outputs) else {}),
        **kind.flags,
    }


def describe_all(registry: Mapping[str, NodeType], settings: Settings) -> dict[str, dict[str, Any]]:
    """All node types by name."""
    return {name: describe(kind, settings) for name, kind in registry.items()}


def _spec(item: Input, settings: Settings) -> list[Any]:
    """`[type, options]`; a choice is `[[what there is to choose from], options]`."""
    options: dict[str, Any] = {}
    if not item.required and item.default is not None and item.default is not OPTIONAL:
        options["default"] = item.default
    if item.range is not None:
        number = int if item.type == "INT" else float
        options |= {"min": number(item.range.min), "max": number(item.range.max)}
        if item.range.step is not None:
            options["step"] = number(item.range.step)
    if item.multiline:
        options["multiline"] = True
    if item.seed:
        options["control_after_generate"] = True
    if item.upload:
        options[f"{item.upload}_upload"] = True
    if item.lazy:
        options["lazy"] = True
    if item.socket:
        options["forceInput"] = True
    if item.help:
        options["tooltip"] = item.help
    options |= item.options
    if item.variants is not None:
        keys = [
            {"key": key, "inputs": _template(declared, settings)} for key, declared in item.variants.options.items()
        ]
        return ["COMFY_DYNAMICCOMBO_V3", {**options, "options": keys}]
    if item.grow is not None:
        grow = item.grow
        named = {"names": list(grow.names)} if grow.names else {"prefix": grow.prefix, "max": grow.max}
        template = {"input": _template(grow.template, settings, grow.prefix, grow.optional), "min": grow.min, **named}
        return ["COMFY_AUTOGROW_V3", {**options, "template": template}]
    if item.rows is not None:
        rows = item.rows
        table = _template(rows.template, settings)
        return ["COMFY_DYNAMICGROUP_V3", {**options, "template": table, "min": rows.min, "max": rows.max}]
    if item.match is not None:
        template = {"template_id": item.match.name, "allowed_types": item.match.allowed}
        return ["COMFY_MATCHTYPE_V3", {**options, "template": template}]
    if item.choice is None:
        return [item.type, options]
    listed = list(item.choice.names(settings))
    if "," in item.type:  # a link may carry another type than the options are of
        return [item.type, {**options, "options": listed, "widgetType": "COMBO"}]
    return [listed, options]


def _template(declared: Any, settings: Settings, name: str = "", optional: bool = False) -> dict[str, dict[str, Any]]:
    """The inputs of a variant, or of what grows, in groups as those of a node."""
    groups: dict[str, dict[str, Any]] = {}
    for item in members(declared).values():
        required = not optional and (item.required or (item.has_widget and item.default not in (None, OPTIONAL)))
        groups.setdefault("required" if required else "optional", {})[item.name or name or "value"] = _spec(
            item, settings
        )
    return groups


def _module(kind: NodeType) -> str:
    """The editor marks a node as foreign by this name."""
    if kind.pack:
        return f"custom_nodes.{kind.pack}"
    pack = kind.function.__module__
    return f"custom_nodes.{pack.removeprefix('graphflow_pack_')}" if pack.startswith("graphflow_pack_") else "nodes"


@dataclass(frozen=True, slots=True)
class InputInfo:
    """One input of a description. A choice has the type COMBO and its `options["options"]`."""

    name: str
    type: str
    options: dict[str, Any] = field(default_factory=dict)
    required: bool = True


@dataclass(frozen=True, slots=True)
class OutputInfo:
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """The description of a node type: its widgets and its sockets, in order."""

    name: str
    display_name: str
    inputs: tuple[InputInfo, ...]
    outputs: tuple[OutputInfo, ...] = ()
    is_output: bool = False
    is_foreign: bool = False
    """It comes from a pack that is not part of the program."""

    @classmethod
    def read(cls, name: str, data: Mapping[str, Any]) -> NodeInfo:
        """Read a description; entries that are none are passed over."""
        groups = _mapping(data.get("input"))
        inputs = read_inputs(groups, _mapping(data.get("input_order")))
        types = [kind if isinstance(kind, str) else "COMBO" for kind in _list(data.get("output"))]
        names = _list(data.get("output_name"))
        outputs = tuple(
            OutputInfo(str(names[index]) if index < len(names) else kind, kind) for index, kind in enumerate(types)
        )
        shown = data.get("display_name")
        return cls(
            name,
            shown if isinstance(shown, str) and shown else name,
            inputs,
            outputs,
            data.get("output_node") is True,
            str(data.get("python_module")).startswith("custom_nodes."),
        )


NodeInfos = Mapping[str, NodeInfo]


def read_all(data: Mapping[str, Any]) -> dict[str, NodeInfo]:
    """All descriptions of a saved or fetched /object_info."""
    return {name: NodeInfo.read(name, entry) for name, entry in data.items() if isinstance(entry, Mapping)}


def read_inputs(groups: Mapping[str, Any], order: Mapping[str, Any] | None = None) -> tuple[InputInfo, ...]:
    """The inputs in the order of their widgets: what is required, what is optional; hidden ones do not count."""
    found = []
    for group in ("required", "optional"):
        specs = _mapping(groups.get(group))
        named = [name for name in _list((order or {}).get(group)) if isinstance(name, str) and name in specs]
        for name in dict.fromkeys([*named, *specs]):
            item = _read_input(name, specs[name], group == "required")
            if item is not None:
                found.append(item)
    return tuple(found)


def _read_input(name: str, spec: Any, required: bool) -> InputInfo | None:
    if not isinstance(spec, (list, tuple)) or not spec:
        return None
    kind = spec[0]
    options = dict(_mapping(spec[1])) if len(spec) > 1 else {}
    if isinstance(kind, (list, tuple)):
        return InputInfo(name, "COMBO", {**options, "options": list(kind)}, required)
    return InputInfo(name, kind, options, required) if isinstance(kind, str) else None


class RegistryInfos(Mapping[str, NodeInfo]):
    """The descriptions of a registry's node types, each made when it is asked for: some list folders."""

    def __init__(self, types: Mapping[str, NodeType], settings: Settings) -> None:
        self._types, self._settings = types, settings
        self._known: dict[str, NodeInfo] = {}

    def __getitem__(self, name: str) -> NodeInfo:
        if name not in self._known:
            self._known[name] = NodeInfo.read(name, describe(self._types[name], self._settings))
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
