"""The source of an input's value: back along its link, out of and into subgraphs, past reroutes and bypassed nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .document import BYPASSED, MUTED, EditorNode, Slot
from .subgraphs import GraphInstance, Nesting

__all__ = ["VIRTUAL", "Constant", "OutputSlot", "resolve"]

NOTES = frozenset({"Note", "MarkdownNote"})
VIRTUAL = NOTES | {"Reroute", "PrimitiveNode"}
"""Types that are there in the editor only."""


@dataclass(frozen=True, slots=True)
class OutputSlot:
    """An output of a node, by its id in the API format."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Constant:
    """The value of a promoted widget: it goes to every input that the widget feeds, sockets too."""

    value: Any


def resolve(nesting: Nesting, scope: GraphInstance, node: EditorNode, index: int) -> OutputSlot | Constant | None:
    """The source of input number `index` of a node; None if it is not linked, or only to what does not run."""
    want = _wanted(nesting, node, index)
    seen: set[tuple[int, str, int]] = set()
    while True:
        here = (id(scope), node.id, index)
        link = scope.graph.into.get((node.id, index))
        if link is None or here in seen:
            return None
        seen.add(here)
        parent, instance = scope.parent, scope.instance
        if parent is not None and instance is not None and link.origin == scope.graph.input_node:
            outer = nesting.input_of_instance(scope, link.origin_slot)
            if outer is None or (instance.id, outer) not in parent.graph.into:
                promoted, value = nesting.promoted_value(scope, link.origin_slot)
                return Constant(value) if promoted else None
            scope, node, index = parent, instance, outer
            want = _wanted(nesting, node, index)
            continue
        origin, slot = scope.graph.nodes.get(link.origin), link.origin_slot
        while origin is not None and origin.active and origin.type in nesting.definitions:
            inside = nesting.enter(scope, origin)
            ends = inside.graph.to_output.get(slot) if inside is not None else None
            if inside is None or not ends:
                return None
            # An output that is wired straight to an input of the definition gives nothing, as in the editor.
            scope, slot, origin = inside, ends[0].origin_slot, inside.graph.nodes.get(ends[0].origin)
        if origin is None or origin.mode == MUTED:
            return None
        if origin.type == "Reroute":
            node, index = origin, 0
        elif origin.mode == BYPASSED:
            passed = _bypass(origin, slot, want)
            if passed is None:
                return None
            node, index, want = origin, passed, _wanted(nesting, origin, passed)
        elif origin.type in VIRTUAL:
            return None
        else:
            return OutputSlot(scope.prefix + origin.id, slot)


def _bypass(node: EditorNode, slot: int, want: str) -> int | None:
    """The input that a bypassed node passes on to an output: one that fits its type and the wanted one."""
    kind = _type(node.outputs, slot)
    if _any(want):
        return slot if slot < len(node.inputs) else 0 if node.inputs else None
    types = [item.type for item in node.inputs]
    if slot < len(types) and _fits(types[slot], kind) and _fits(types[slot], want):
        return slot
    if want in types:
        return types.index(want)
    return next((at for at, each in enumerate(types) if _fits(each, kind) and _fits(each, want)), None)


def _wanted(nesting: Nesting, node: EditorNode, index: int) -> str:
    """The type that an input takes. One that takes the type of its link takes all that it may take."""
    info = nesting.infos.get(node.type)
    if info is not None and 0 <= index < len(node.inputs):
        for item in info.inputs:
            if item.name == node.inputs[index].name and item.type == "COMFY_MATCHTYPE_V3":
                template = item.options.get("template")
                allowed = template.get("allowed_types") if isinstance(template, Mapping) else None
                return allowed if isinstance(allowed, str) else "*"
    return _type(node.inputs, index)


def _type(slots: tuple[Slot, ...], index: int) -> str:
    return slots[index].type if 0 <= index < len(slots) else "*"


def _any(kind: str) -> bool:
    return kind in ("", "*")


def _fits(a: str, b: str) -> bool:
    if _any(a) or _any(b) or a.lower() == b.lower():
        return True
    return not set(a.lower().split(",")).isdisjoint(b.lower().split(","))
