"""Subgraphs: a definition is a graph with inputs and outputs of its own, an instance a node whose type is a definition.

The widgets of the nodes inside may be promoted: shown on the instance, with a value for each instance. A `Scope` is one
occurrence of a graph, with the values that its instance gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from ...document.walks import cyclic
from ..object_info import NodeInfos
from .document import EditorDocument, EditorGraph, EditorNode, Slot
from .values import fill_in
from .widgets import Widget, read_widgets

__all__ = ["Nesting", "Promoted", "GraphInstance"]

PUSHERS = ("PrimitiveNode", "CustomCombo")
MAX_DEPTH = 1000
PREFIX = re.compile(r"^\s*(\d+)\s*:\s*")


class Promoted(NamedTuple):
    """The meaning of an input of a definition: a widget of a node inside, or an input of an instance inside."""

    node: str
    widget: str
    nested: int | None
    """The number of the input of the nested definition."""


NAME = "Node name for S&R"
"""The property that holds the name of a node for `%Node.widget%`."""


@dataclass(slots=True, eq=False)
class GraphInstance:
    """One occurrence of a graph: the root, or the inside of one instance."""

    graph: EditorGraph
    parent: GraphInstance | None = None
    instance: EditorNode | None = None
    prefix: str = ""
    """The prefix of its nodes' ids in the API format: the ids of the instances, `57:40:`."""
    depth: int = 0
    given: dict[int, Any] = field(default_factory=dict)
    """Values that the instance gives to promoted inputs."""
    pushed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Values that win over stored ones: by node and widget."""
    children: dict[str, GraphInstance | None] = field(default_factory=dict)
    widgets: dict[str, dict[str, Widget]] = field(default_factory=dict)


class Nesting:
    """The graphs of a document and how they lie in each other."""

    def __init__(
        self, document: EditorDocument, infos: NodeInfos, now: datetime, *, prefer_named: bool = False
    ) -> None:
        self.infos, self.definitions = infos, document.definitions
        self._now, self._prefer_named = now, prefer_named
        self._cyclic = _cyclic(self.definitions)
        for graph in (document.root, *self.definitions.values()):
            _free_shown_widgets(graph, self.definitions)
        self._promoted: dict[tuple[str, int], Promoted | None] = {}
        self.root = GraphInstance(document.root)
        self._push_primitives(self.root)

    def enter(self, scope: GraphInstance, instance: EditorNode) -> GraphInstance | None:
        """The inside of an instance; None where the definition is missing or contains itself."""
        if instance.id not in scope.children:
            graph = self.definitions.get(instance.type)
            if graph is None or graph.id in self._cyclic or scope.depth >= MAX_DEPTH:
                scope.children[instance.id] = None
            else:
                child = GraphInstance(graph, scope, instance, f"{scope.prefix}{instance.id}:", scope.depth + 1)
                scope.children[instance.id] = child
                self._push_primitives(child)
                self._give(child, instance)
        return scope.children[instance.id]

    def widgets_of(self, scope: GraphInstance, node: EditorNode) -> dict[str, Widget]:
        """The widgets of a node by name; none if its type is not known."""
        if node.id not in scope.widgets:
            info = self.infos.get(node.type)
            pushed = scope.pushed.get(node.id, {})
            found = read_widgets(info, node, pushed, prefer_named=self._prefer_named) if info is not None else []
            scope.widgets[node.id] = {item.name: item for item in found}
        return scope.widgets[node.id]

    def fill_in(self, scope: GraphInstance, text: str) -> str:
        """`%date:...%` and `%Node.widget%` in a text: of the first node with this name, in this graph or around it."""

        def value(name: str, widget: str) -> Any:
            around: GraphInstance | None = scope
            while around is not None:
                nodes = around.graph.nodes.values()
                named = [node for node in nodes if node.properties.get(NAME) == name]
                named = named or [node for node in nodes if node.title == name]
                for node in named or [node for node in nodes if self._goes_by(node, name)]:
                    found = self.widgets_of(around, node).get(widget)
                    return found.value if found is not None else None
                around = around.parent
            return None

        return fill_in(text, value, self._now)

    def _goes_by(self, node: EditorNode, name: str) -> bool:
        """Whether a node without a name or a title of its own is shown under this one: by its type."""
        info = self.infos.get(node.type)
        shown = {node.type} | ({info.display_name} if info is not None else set())
        return NAME not in node.properties and node.title is None and name in shown

    def input_of_instance(self, scope: GraphInstance, index: int) -> int | None:
        """The input of the instance that stands for an input of its definition: by name, same names in order."""
        if scope.instance is None or not 0 <= index < len(scope.graph.inputs):
            return None
        return _same_place(scope.graph.inputs, index, scope.instance.inputs)

    def promoted_value(self, scope: GraphInstance, index: int) -> tuple[bool, Any]:
        """(is the input of the definition promoted, the value that this instance has for it)."""
        while True:
            if index in scope.given:
                return True, scope.given[index]
            found = self.promoted(scope.graph, index)
            if found is None:
                return False, None
            node = scope.graph.nodes[found.node]
            if found.nested is None:
                widget = self.widgets_of(scope, node).get(found.widget)
                return (True, widget.value) if widget is not None and widget.sent else (False, None)
            child = self.enter(scope, node)
            if child is None:
                return False, None
            scope, index = child, found.nested

    def promoted(self, graph: EditorGraph, index: int) -> Promoted | None:
        """The widget or inner input that an input of a definition stands for, if it is promoted: the first of its links
        that ends in a widget."""
        asked = (graph.id, index)
        waiting, begun = [(graph, index)], {asked}
        while waiting:
            now, at = waiting[-1]
            if (now.id, at) in self._promoted:
                waiting.pop()
                continue
            found, first = self._look(now, at, begun)
            if first is None:
                self._promoted[(now.id, at)] = found
            else:
                begun.add((first[0].id, first[1]))
                waiting.append(first)
        return self._promoted[asked]

    def _look(
        self, graph: EditorGraph, index: int, begun: set[tuple[str, int]]
    ) -> tuple[Promoted | None, tuple[EditorGraph, int] | None]:
        """The meaning of the input, or the nested input that has to be looked at first."""
        for link in graph.from_input.get(index, ()):
            node = graph.nodes.get(link.target)
            if node is None or not 0 <= link.target_slot < len(node.inputs):
                continue
            slot = node.inputs[link.target_slot]
            nested = self.definitions.get(node.type)
            if nested is None:
                if self._is_widget(node, slot):
                    return Promoted(node.id, slot.name, None), None
                continue
            inner = _same_place(node.inputs, link.target_slot, nested.inputs)
            if inner is None:
                continue
            key = (nested.id, inner)
            if key not in self._promoted:
                if key in begun:
                    continue
                return None, (nested, inner)
            if self._promoted[key] is not None:
                return Promoted(node.id, slot.name, inner), None
        return None, None

    def _is_widget(self, node: EditorNode, slot: Slot) -> bool:
        """By the node's description: the file may be of a version that had other widgets."""
        info = self.infos.get(node.type)
        if info is None or (self._prefer_named and slot.widget is not None):
            return slot.widget is not None
        return any(item.name == slot.name for item in read_widgets(info, node, {}))

    def _push_primitives(self, scope: GraphInstance) -> None:
        """Primitive nodes write their value into the widgets that they are linked to, whatever their mode."""
        patterns = []
        for node in scope.graph.nodes.values():
            if node.type in PUSHERS and isinstance(node.values, list) and node.values:
                value = node.values[0]
                _push(scope, node, value)
                if (
                    node.properties.get("Run widget replace on values") is True
                    and isinstance(value, str)
                    and "%" in value
                ):
                    patterns.append((node, value))
        filled = [(node, self.fill_in(scope, value)) for node, value in patterns]
        for node, value in filled:
            _push(scope, node, value)
        scope.widgets.clear()

    def _give(self, scope: GraphInstance, instance: EditorNode) -> None:
        """The values that an instance has for what is promoted; what is done later wins."""
        graph = scope.graph
        shown = [index for index in range(len(graph.inputs)) if self.promoted(graph, index) is not None]
        if isinstance(instance.values, list):
            scope.given.update(zip(shown, instance.values, strict=False))
        if self._prefer_named:
            named = {**(instance.values if isinstance(instance.values, dict) else {}), **(instance.named or {})}
            scope.given |= {index: named[name] for index in shown if (name := graph.inputs[index].name) in named}
        for entry in _list(instance.properties.get("proxyWidgetErrorQuarantine")):
            where = _list(entry.get("originalEntry")) if isinstance(entry, Mapping) else []
            if len(where) >= 2 and where[0] == "-1" and "hostValue" in entry:
                self._give_input(scope, str(where[1]), entry["hostValue"])
        values = instance.values if isinstance(instance.values, list) else []
        for proxy, value in zip(_list(instance.properties.get("proxyWidgets")), values, strict=False):
            self._give_proxy(scope, proxy, value)
        assert scope.parent is not None
        for name, value in scope.parent.pushed.get(instance.id, {}).items():
            self._give_input(scope, name, value)

    def _give_input(self, scope: GraphInstance, name: str, value: Any) -> None:
        for index, slot in enumerate(scope.graph.inputs):
            if slot.name == name:
                scope.given[index] = value
                return

    def _give_proxy(self, scope: GraphInstance, proxy: Any, value: Any) -> None:
        """`[node inside, widget]`: a widget that older editors show on the instance. What cannot be found is
        dropped."""
        shown = _shown(proxy)
        if shown is None:
            return
        node_id, name = shown
        if node_id == "-1":
            self._give_input(scope, name, value)
            return
        node = scope.graph.nodes.get(scope.graph.renamed.get(node_id, node_id))
        if node is None:
            return
        if node.type == "PrimitiveNode":
            _push(scope, node, value)
            return
        for at, slot in enumerate(node.inputs):
            link = scope.graph.into.get((node.id, at))
            if slot.name == name and link is not None and link.origin == scope.graph.input_node:
                scope.given[link.origin_slot] = value
                return
        info = self.infos.get(node.type)
        if info is None or any(item.name == name for item in info.inputs):
            scope.pushed.setdefault(node.id, {})[name] = value


def _free_shown_widgets(graph: EditorGraph, definitions: Mapping[str, EditorGraph]) -> None:
    """A widget that older editors show on an instance becomes an input of the definition, in place of a link inside."""
    for instance in graph.nodes.values():
        inside = definitions.get(instance.type)
        for proxy in _list(instance.properties.get("proxyWidgets")) if inside is not None else ():
            shown = _shown(proxy)
            node = inside.nodes.get(inside.renamed.get(shown[0], shown[0])) if shown is not None and inside else None
            if shown is None or node is None or inside is None or node.type in PUSHERS or node.type in definitions:
                continue
            for at, slot in enumerate(node.inputs):
                link = inside.into.get((node.id, at))
                if slot.widget == shown[1] and link is not None and link.origin != inside.input_node:
                    del inside.into[node.id, at]


def _shown(proxy: Any) -> tuple[str, str] | None:
    """The node inside and the widget that an entry `["12", "text"]` of `proxyWidgets` names; None for a preview."""
    if not isinstance(proxy, list) or len(proxy) < 2 or not isinstance(proxy[1], str) or proxy[1].startswith("$$"):
        return None
    name = proxy[1]
    while (found := PREFIX.match(name)) is not None:
        name = name[found.end() :]
    return str(proxy[0]), name


def _push(scope: GraphInstance, primitive: EditorNode, value: Any) -> None:
    for link in scope.graph.from_node.get(primitive.id, ()):
        target = scope.graph.nodes.get(link.target)
        if target is None or not 0 <= link.target_slot < len(target.inputs):
            continue
        slot = target.inputs[link.target_slot]
        if slot.widget is not None:
            scope.pushed.setdefault(target.id, {})[slot.widget] = value


def _same_place(slots: tuple[Any, ...], index: int, others: tuple[Any, ...]) -> int | None:
    """The slot of `others` with the same name; of several, the one with the same number among them."""
    name = slots[index].name
    number = sum(1 for slot in slots[:index] if slot.name == name)
    same = [at for at, slot in enumerate(others) if slot.name == name]
    return same[number] if number < len(same) else None


def _cyclic(definitions: Mapping[str, EditorGraph]) -> frozenset[str]:
    """The definitions that lie in themselves, over any number of others."""
    inside = {
        graph.id: [node.type for node in graph.nodes.values() if node.type in definitions]
        for graph in definitions.values()
    }
    return frozenset(key for knot in cyclic(inside) for key in knot)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
