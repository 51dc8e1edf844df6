"""The editor's file as graphs of nodes and links: the root, and a definition for each kind of subgraph.

Both versions of the file (0.4: links are lists; 1: links are objects) give the same graphs. What is malformed is passed
over: a reader of other people's files meets everything. Ids are text here, as they are in the API format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "ALWAYS",
    "BYPASSED",
    "MUTED",
    "EditorDocument",
    "EditorLink",
    "EditorNode",
    "EditorGraph",
    "Slot",
    "is_editor_format",
    "read",
]

ALWAYS, MUTED, BYPASSED = 0, 2, 4
INPUT_NODE, OUTPUT_NODE = "-10", "-20"


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output of a node, or of a definition."""

    name: str
    type: str
    widget: str | None = None
    """Name of the widget that the input stands for."""
    links: tuple[str, ...] = ()
    """The ids of its links, as the slot itself states them."""


@dataclass(frozen=True, slots=True)
class EditorNode:
    id: str
    type: str
    mode: int
    title: str | None
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: list[Any] | dict[str, Any] | None
    """`widgets_values`: the stored values of the widgets, by place or by name."""
    named: dict[str, Any] | None
    """`widgets_values_named`."""
    properties: dict[str, Any]

    @property
    def active(self) -> bool:
        return self.mode not in (MUTED, BYPASSED)


@dataclass(frozen=True, slots=True)
class EditorLink:
    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(slots=True)
class EditorGraph:
    """The nodes and links of the root or of a definition."""

    id: str
    nodes: dict[str, EditorNode] = field(default_factory=dict)
    links: dict[str, EditorLink] = field(default_factory=dict)
    order: dict[str, int] = field(default_factory=dict)
    """The place of each link in the table."""
    into: dict[tuple[str, int], EditorLink] = field(default_factory=dict)
    """The link that ends in an input: (node, place of the input in the file) -> link."""
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    input_node: str = INPUT_NODE
    output_node: str = OUTPUT_NODE
    renamed: dict[str, str] = field(default_factory=dict)
    """Ids in the file -> ids here, where they differ (see `read`)."""

    from_node: dict[str, list[EditorLink]] = field(default_factory=dict)
    """The links that start at a node."""
    from_input: dict[int, list[EditorLink]] = field(default_factory=dict)
    """Of a definition: the links inside that start at an input, by its place."""
    to_output: dict[int, list[EditorLink]] = field(default_factory=dict)
    """Of a definition: the links inside that end in an output, by its place."""


@dataclass(frozen=True, slots=True)
class EditorDocument:
    root: EditorGraph
    definitions: dict[str, EditorGraph]


def is_editor_format(data: Any) -> bool:
    """Whether this is the editor's own format: lists of nodes and links, not a mapping of ids to nodes."""
    return isinstance(data, Mapping) and isinstance(data.get("nodes"), list)


def read(data: Mapping[str, Any]) -> EditorDocument:
    """The graphs of a file.

    As in the editor, node ids are made unique over all graphs: a definition's node whose id is taken gets the next
    free one.
    """
    root = _graph(data, "")
    definitions: dict[str, EditorGraph] = {}
    for raw in _flatten(data):
        graph = _graph(raw, str(raw.get("id")))
        definitions.setdefault(graph.id, graph)
    _make_ids_unique(root, definitions, _last_node_id(data))
    return EditorDocument(root, definitions)


def _flatten(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All definitions; older files nest them."""
    waiting = [data]
    while waiting:
        subgraphs = _mapping(waiting.pop().get("definitions")).get("subgraphs")
        inner = [item for item in _list(subgraphs) if isinstance(item, Mapping)]
        yield from inner
        waiting.extend(reversed(inner))


def _graph(raw: Mapping[str, Any], graph_id: str) -> EditorGraph:
    graph = EditorGraph(graph_id)
    graph.input_node = str(_mapping(raw.get("inputNode")).get("id", INPUT_NODE))
    graph.output_node = str(_mapping(raw.get("outputNode")).get("id", OUTPUT_NODE))
    graph.inputs, graph.outputs = _slots(raw.get("inputs")), _slots(raw.get("outputs"))
    for item in _list(raw.get("nodes")):
        if isinstance(item, Mapping) and _is_id(item.get("id")):
            node = _node(item)
            graph.nodes.setdefault(node.id, node)
    for item in _list(raw.get("links")):
        link = _link(item)
        if link is not None:
            graph.links.setdefault(link.id, link)
    _index(graph)
    return graph


def _index(graph: EditorGraph) -> None:
    graph.into, graph.from_node, graph.from_input, graph.to_output = {}, {}, {}, {}
    graph.order = {link_id: place for place, link_id in enumerate(graph.links)}
    for node in graph.nodes.values():
        _find_inputs(graph, node)
    for link in graph.links.values():
        graph.from_node.setdefault(link.origin, []).append(link)
        graph.into.setdefault((link.target, link.target_slot), link)
        if link.origin == graph.input_node:
            graph.from_input.setdefault(link.origin_slot, []).append(link)
        if link.target == graph.output_node:
            graph.to_output.setdefault(link.target_slot, []).append(link)
    for slots, ends in ((graph.inputs, graph.from_input), (graph.outputs, graph.to_output)):
        for index, links in ends.items():
            stated = slots[index].links if 0 <= index < len(slots) else ()
            place = {link_id: at for at, link_id in enumerate(stated)}
            links.sort(key=lambda link, place=place: place.get(link.id, len(place)))  # type: ignore[misc]


def _find_inputs(graph: EditorGraph, node: EditorNode) -> None:
    """The link that ends in each input: the one that the input names, whatever place the table of links gives it.

    But of two named links for which the table gives one place, only the first in the table stays, and in that place.
    All this is what the editor does. Links that no input names end in their place of the table, if nothing else ends
    there.
    """
    named = {
        link_id: at
        for at, slot in reversed(list(enumerate(node.inputs)))
        for link_id in slot.links
        if link_id in graph.links and graph.links[link_id].target == node.id
    }
    places: dict[int, list[str]] = {}
    for link_id in sorted(named, key=graph.order.__getitem__):
        places.setdefault(graph.links[link_id].target_slot, []).append(link_id)
    for place, rivals in places.items():
        if len(rivals) > 1:
            graph.into[node.id, place] = graph.links[rivals[0]]
    for rivals in places.values():
        if len(rivals) == 1:
            graph.into.setdefault((node.id, named[rivals[0]]), graph.links[rivals[0]])


def _node(raw: Mapping[str, Any]) -> EditorNode:
    values, named = raw.get("widgets_values"), raw.get("widgets_values_named")
    mode, title = raw.get("mode"), raw.get("title")
    return EditorNode(
        str(raw["id"]),
        _type_now(str(raw.get("type"))),
        mode if type(mode) is int else ALWAYS,
        title if isinstance(title, str) and title else None,
        _slots(raw.get("inputs")),
        _slots(raw.get("outputs")),
        values if isinstance(values, (list, dict)) else None,
        named if isinstance(named, dict) else None,
        dict(_mapping(raw.get("properties"))),
    )


def _type_now(name: str) -> str:
    """The name that a node type has today; the editor mends these old ones when it loads a file."""
    return _TODAY.get(name.rstrip(), name.rstrip())


_TODAY = {"T2IAdapterLoader": "ControlNetLoader", "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning"}


def _slots(raw: Any) -> tuple[Slot, ...]:
    return tuple(_slot(_mapping(item)) for item in _list(raw))


def _slot(raw: Mapping[str, Any]) -> Slot:
    kind, widget = raw.get("type"), raw.get("widget")
    name = widget.get("name") if isinstance(widget, Mapping) else None
    links = tuple(str(item) for item in [raw.get("link"), *_list(raw.get("linkIds"))] if _is_id(item))
    return Slot(
        str(raw.get("name")), kind if isinstance(kind, str) else "*", name if isinstance(name, str) else None, links
    )


def _link(raw: Any) -> EditorLink | None:
    if isinstance(raw, (list, tuple)) and len(raw) >= 5:
        ends = tuple(raw[:5])
    elif isinstance(raw, Mapping):
        ends = tuple(raw.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot"))
    else:
        return None
    link_id, origin, origin_slot, target, target_slot = ends
    if not all(_is_id(item) for item in ends) or type(origin_slot) is not int or type(target_slot) is not int:
        return None
    return EditorLink(str(link_id), str(origin), origin_slot, str(target), target_slot)


def _last_node_id(data: Mapping[str, Any]) -> int:
    stated = [data.get("last_node_id"), _mapping(data.get("state")).get("lastNodeId")]
    return max((item for item in stated if type(item) is int), default=0)


def _make_ids_unique(root: EditorGraph, definitions: Mapping[str, EditorGraph], last: int) -> None:
    taken = set(root.nodes)
    for graph in definitions.values():
        for key in graph.nodes:
            if key in taken:
                last += 1
                while str(last) in taken:
                    last += 1
                graph.renamed[key] = str(last)
            taken.add(graph.renamed.get(key, key))
        if graph.renamed:
            _rename(graph)


def _rename(graph: EditorGraph) -> None:
    new = graph.renamed
    graph.nodes = {
        new.get(key, key): replace(node, id=new[key]) if key in new else node for key, node in graph.nodes.items()
    }
    graph.links = {
        key: replace(link, origin=new.get(link.origin, link.origin), target=new.get(link.target, link.target))
        for key, link in graph.links.items()
    }
    _index(graph)


def _is_id(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value != "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
