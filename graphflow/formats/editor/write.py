"""From a workflow to a file that opens in the editor: nodes in columns from left to right, none over another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...document.walks import sources_first
from ...document.workflow import NOTES, Link, Node, Workflow, as_link
from ...look.layout import lay_out
from ...problem import Problem
from ..object_info import InputInfo, NodeInfo, NodeInfos, OutputInfo
from .widgets import Widget, has_widget, inputs_with, stored_widgets

__all__ = ["EditorFile", "from_workflow"]

WIDTH, TITLE, SLOT, WIDGET, MULTILINE, PREVIEW, FOOT = 270, 30, 20, 24, 100, 240, 10
GAP_X, GAP_Y = 60, 30
CONSTANTS = {bool: "PrimitiveBoolean", int: "PrimitiveInt", float: "PrimitiveFloat", str: "PrimitiveStringMultiline"}
"""ComfyUI's node types that hold a constant, for inputs that have no widget to hold it."""


@dataclass(frozen=True, slots=True)
class EditorFile:
    """A file of the editor; `warnings` name what of the workflow it cannot show."""

    data: dict[str, Any]
    warnings: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _WrittenNode:
    """A node on its way into the file."""

    id: int
    node: Node
    info: NodeInfo | None
    values: dict[str, Any]
    links: dict[str, Link]
    slots: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    widgets: list[InputInfo] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)

    @property
    def height(self) -> int:
        rows = max(len([slot for slot in self.slots if "widget" not in slot]), len(self.outputs))
        texts = sum(MULTILINE for item in self.widgets if item.options.get("multiline"))
        preview = PREVIEW if self.info is not None and (self.info.is_output or _uploads(self.info)) else 0
        return SLOT * rows + WIDGET * len(self.widgets) + texts + preview + FOOT


def from_workflow(workflow: Workflow, infos: NodeInfos) -> EditorFile:
    """A file for the editor (version 0.4). Ids that are whole numbers stay; others get numbers.

    Reading it back gives the same workflow. What its format cannot hold is a warning: a constant on an input that has
    no widget becomes a node of its own; inputs that the node type does not have are left out.
    """
    return _Writing(workflow, infos).run()


class _Writing:
    def __init__(self, workflow: Workflow, infos: NodeInfos) -> None:
        self._workflow, self._infos = workflow, infos
        self._parts: dict[str, _WrittenNode] = {}
        self._links: list[list[Any]] = []
        self._warnings: list[Problem] = []

    def run(self) -> EditorFile:
        numbers = _numbers(self._workflow)
        for key, node in self._workflow.items():
            self._parts[key] = self._part(numbers[key], key, node)
        for key, part in list(self._parts.items()):
            self._add_constants(key, part)
        for key, part in self._parts.items():
            self._add_slots(key, part)
        for part in self._parts.values():
            self._connect(part)
        order = sources_first({key: {link.node for link in part.links.values()} for key, part in self._parts.items()})
        self._parts = {key: self._parts[key] for key in order}
        data = {
            "revision": 0,
            "last_node_id": max((part.id for part in self._parts.values()), default=0),
            "last_link_id": len(self._links),
            "nodes": self._placed(),
            "links": self._links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }
        return EditorFile(data, tuple(self._warnings))

    def _part(self, number: int, key: str, node: Node) -> _WrittenNode:
        info = self._infos.get(node.class_type)
        if info is None and node.class_type not in NOTES:
            self._warn(
                "unknown_node_type", f"there is no node type {node.class_type!r}, so its widgets are not known", key
            )
        links = {name: link for name, value in node.inputs.items() if (link := as_link(value)) is not None}
        values = {name: _unwrapped(value) for name, value in node.inputs.items() if name not in links}
        return _WrittenNode(
            number, node, info, values, {name: link for name, link in links.items() if link.node in self._workflow}
        )

    def _add_constants(self, key: str, part: _WrittenNode) -> None:
        """A node for each constant that stands on an input without a widget."""
        if part.info is None:
            return
        known = {item.name: item for item in inputs_with(part.info, {**part.values, **part.links})}
        written = {item.name for item in stored_widgets(part.info, part.values)}
        for name, value in list(part.values.items()):
            is_display = name in known and has_widget(known[name])
            if name in written or value is None or is_display:
                continue
            kind = CONSTANTS.get(type(value))
            info = self._infos.get(kind) if kind is not None and name in known else None
            if kind is None or info is None:
                self._warn("not_shown", "the editor has no place for this value, so it is left out", key, name)
                continue
            new = f"{key}\0{name}"
            number = max(each.id for each in self._parts.values()) + 1
            self._parts[new] = _WrittenNode(number, Node(class_type=kind), info, {"value": value}, {})
            part.links[name] = Link(new, 0)
            del part.values[name]

    def _add_slots(self, key: str, part: _WrittenNode) -> None:
        if part.info is None:
            part.slots = [{"name": name, "type": "*", "link": None} for name in part.links]
            part.stored = list(part.values.values())
            return
        for item in inputs_with(part.info, {**part.values, **part.links}):
            if not has_widget(item):
                part.slots.append({"name": item.name, "type": item.type, "link": None})
            elif item.name in part.links:
                part.slots.append({"name": item.name, "type": item.type, "widget": {"name": item.name}, "link": None})
        named = {slot["name"] for slot in part.slots}
        part.slots += [{"name": name, "type": "*", "link": None} for name in part.links if name not in named]
        part.outputs = [_output(out) for out in part.info.outputs]
        widgets = stored_widgets(part.info, part.values)
        part.widgets, part.stored = [item.info for item in widgets], [_kept(item) for item in widgets]

    def _connect(self, part: _WrittenNode) -> None:
        for index, slot in enumerate(part.slots):
            link = part.links.get(slot["name"])
            if link is None or not 0 <= link.slot < 1000:
                continue
            source = self._parts[link.node]
            while len(source.outputs) <= link.slot:
                source.outputs.append(_output(OutputInfo("*", "*")))
            output = source.outputs[link.slot]
            number = len(self._links) + 1
            self._links.append([number, source.id, link.slot, part.id, index, output["type"]])
            output["links"].append(number)
            slot["link"] = number

    def _placed(self) -> list[dict[str, Any]]:
        edges = [(link.node, key) for key, part in self._parts.items() for link in part.links.values()]
        heights = {key: part.height + TITLE for key, part in self._parts.items()}
        places = lay_out(edges, heights, WIDTH, GAP_X, GAP_Y).places
        return [_written(part, places[key], order) for order, (key, part) in enumerate(self._parts.items())]

    def _warn(self, code: str, message: str, key: str, name: str | None = None) -> None:
        self._warnings.append(Problem(code, message, key, self._workflow[key].title, name))


def _written(part: _WrittenNode, place: tuple[int, int], order: int) -> dict[str, Any]:
    kind, meta = part.node.class_type, part.node.meta or {}
    shown = part.info.display_name if part.info is not None else kind
    title = part.node.title
    kept = {key: value for key in ("cnr_id", "aux_id", "ver") if isinstance(value := meta.get(key), str)}
    return {
        "id": part.id,
        "type": kind,
        # A place is that of the body; the title stands above it.
        "pos": [place[0], place[1] + TITLE],
        "size": [WIDTH, part.height],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": part.slots,
        "outputs": part.outputs,
        **({"title": title} if title and title != shown else {}),
        "properties": {**kept, "Node name for S&R": kind},
        "widgets_values": part.stored,
    }


def _numbers(workflow: Workflow) -> dict[str, int]:
    """A number for each node: the one that it has as its id, or the next free one."""
    numbers = {key: int(key) for key in workflow if key.isdecimal() and key == str(int(key)) and int(key) < 2**53}
    free = max(numbers.values(), default=0)
    for key in workflow:
        if key not in numbers:
            free += 1
            numbers[key] = free
    return {key: numbers[key] for key in workflow}


def _output(out: OutputInfo) -> dict[str, Any]:
    return {"name": out.name, "type": out.type, "links": []}


def _kept(widget: Widget) -> Any:
    """The editor would choose among `{a|b}`; the API format means them as they stand."""
    if widget.info.options.get("dynamicPrompts") and isinstance(widget.value, str):
        return widget.value.replace("{", "\\{")
    return widget.value


def _unwrapped(value: Any) -> Any:
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _uploads(info: NodeInfo) -> bool:
    return any(item.options.get("image_upload") for item in info.inputs)
