"""A drawing of a workflow: boxes in columns, curves for links, a colour for each kind of value. SVG or Mermaid text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from html import escape

from ..document.workflow import NOTES, Link, Workflow, as_link
from ..nodetype.node import NodeType
from ..problem import GraphFlowError, Problem
from .layout import Layout, lay_out

__all__ = ["to_mermaid", "to_png", "to_svg"]

WIDTH, ROW, HEAD, FOOT, GAP_X, GAP_Y, MARGIN = 230, 18, 28, 8, 64, 22, 20
COLOURS = {
    "MODEL": "#8d7ae0",
    "CLIP": "#d9a514",
    "VAE": "#e0605e",
    "CONDITIONING": "#e58a2e",
    "LATENT": "#d667b0",
    "IMAGE": "#3d8be0",
    "MASK": "#4ba36b",
    "INT": "#3fa39a",
    "FLOAT": "#3fa39a",
    "STRING": "#7f8c5b",
}
OTHERS = ("#6b7fa8", "#a8776b", "#6ba89a", "#8f6ba8", "#a8986b", "#5f93a8")
STYLE = (
    "text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#333a4d}.title{font-weight:600;fill:#111827}"
    ".id{text-anchor:end;fill:#9aa3b5}.value{text-anchor:end;fill:#6b7488}.out{text-anchor:end}"
    ".node{fill:#fff;stroke:#c3c9d6}.head{fill:#eaedf4}.link{fill:none;stroke-width:2;stroke-opacity:.85}"
    ".dot{stroke:#fff;stroke-width:1.2}"
)


@dataclass(frozen=True, slots=True)
class _Wire:
    source: Link
    target: str
    input: str


@dataclass(frozen=True, slots=True)
class _Box:
    """The rows of a node: outputs on the right, linked inputs on the left beside them, then the values."""

    outputs: list[tuple[int, str, str]]
    """Slot, label and colour."""
    linked: list[str]
    values: list[tuple[str, str]]

    @property
    def height(self) -> int:
        return HEAD + ROW * (max(len(self.outputs), len(self.linked)) + len(self.values)) + FOOT


def to_svg(workflow: Workflow, types: Mapping[str, NodeType] | None = None) -> str:
    """A self-contained SVG; with the node types, outputs have their names and links their colours."""
    keys = [key for key, node in workflow.items() if node.class_type not in NOTES]
    wires = list(_wires(workflow, set(keys)))
    boxes = _boxes(workflow, keys, wires, types or {})
    layout = lay_out(
        [(wire.source.node, wire.target) for wire in wires],
        {key: box.height for key, box in boxes.items()},
        WIDTH,
        GAP_X,
        GAP_Y,
    )
    links = list(_draw_links(wires, boxes, layout))
    body = [path for path, _ in links]
    for key, box in boxes.items():
        body += _draw_box(workflow[key].title or workflow[key].class_type, key, box, layout.places[key])
    body += [dot for _, dot in links]
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" rx="6" fill="#f5f6fa"/>'
        f'<g transform="translate({MARGIN} {MARGIN})">{"".join(body)}</g></svg>\n'
    )


def to_png(svg: str, zoom: float = 2.0) -> bytes:
    """A drawing of `to_svg` as PNG, with so many pixels for one of its units. Raises a Problem without `resvg-py`."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        hint = "pip install 'graphflow-engine[png]', or draw it as .svg"
        raise GraphFlowError([Problem("not_installed", "PNG drawings need the package resvg-py", hint=hint)]) from None
    return bytes(svg_to_bytes(svg_string=svg, zoom=zoom))


def to_mermaid(workflow: Workflow) -> str:
    """A Mermaid flowchart, which many viewers of Markdown draw."""
    number = {
        key: index for index, key in enumerate(key for key, node in workflow.items() if node.class_type not in NOTES)
    }
    lines = ["flowchart LR"]
    for key, index in number.items():
        label = escape(workflow[key].title or workflow[key].class_type).replace("\n", " ")
        lines.append(f'    n{index}["{label}"]')
    lines += [
        f'    n{number[wire.source.node]} -->|"{escape(wire.input)}"| n{number[wire.target]}'
        for wire in _wires(workflow, set(number))
    ]
    return "\n".join(lines) + "\n"


def _wires(workflow: Workflow, keys: set[str]) -> Iterator[_Wire]:
    for key, node in workflow.items():
        for name, value in node.inputs.items():
            link = as_link(value)
            if link is not None and link.node in keys and key in keys:
                yield _Wire(link, key, name)


def _boxes(workflow: Workflow, keys: list[str], wires: list[_Wire], types: Mapping[str, NodeType]) -> dict[str, _Box]:
    used: dict[str, set[int]] = {}
    linked: dict[str, list[str]] = {}
    for wire in wires:
        used.setdefault(wire.source.node, set()).add(wire.source.slot)
        linked.setdefault(wire.target, []).append(wire.input)
    boxes = {}
    for key in keys:
        node = workflow[key]
        kind = types.get(node.class_type)
        stated = kind.outputs if kind is not None else ()
        outputs = [(slot, out.name, _colour(out.type)) for slot, out in enumerate(stated)]
        outputs += [(slot, "", _colour("")) for slot in sorted(used.get(key, ())) if not 0 <= slot < len(stated)]
        values = [(name, str(value)) for name, value in node.inputs.items() if as_link(value) is None]
        boxes[key] = _Box(outputs, linked.get(key, []), values)
    return boxes


def _draw_box(title: str, key: str, box: _Box, place: tuple[int, int]) -> Iterator[str]:
    x, y = place
    yield f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{box.height}" rx="8" class="node"/>'
    yield (
        f'<path d="M{x + 0.5} {y + HEAD - 4}v-{HEAD - 12}q0 -7.5 8 -7.5h{WIDTH - 17}q8 0 8 7.5v{HEAD - 12}z"'
        ' class="head"/>'
    )
    yield _text(x + 10, y + 17, "title", title, 26)
    yield _text(x + WIDTH - 10, y + 17, "id", key, 6)
    for row, name in enumerate(box.linked):
        yield _text(x + 12, _row(y, row) + 4, "name", name, 18)
    for row, (_, label, colour) in enumerate(box.outputs):
        yield _text(x + WIDTH - 12, _row(y, row) + 4, "out", label, 16)
        yield f'<circle cx="{x + WIDTH}" cy="{_row(y, row)}" r="4.5" fill="{colour}" class="dot"/>'
    below = max(len(box.outputs), len(box.linked))
    for row, (name, value) in enumerate(box.values, start=below):
        yield _text(x + 12, _row(y, row) + 4, "name", name, 16)
        yield _text(x + WIDTH - 12, _row(y, row) + 4, "value", value, 18)


def _draw_links(wires: list[_Wire], boxes: Mapping[str, _Box], layout: Layout) -> Iterator[tuple[str, str]]:
    """The curve of each link and the dot at its end."""
    for wire in wires:
        source, target = wire.source.node, wire.target
        row = next(row for row, output in enumerate(boxes[source].outputs) if output[0] == wire.source.slot)
        colour = boxes[source].outputs[row][2]
        x, y = layout.places[source][0] + WIDTH, _row(layout.places[source][1], row)
        end = layout.places[target][0], _row(layout.places[target][1], boxes[target].linked.index(wire.input))
        path = f"M{x} {y}"
        for lane_x, lane_y in layout.lanes.get((source, target), ()):
            path += _curve(x, y, lane_x, lane_y) + f"H{lane_x + WIDTH}"
            x, y = lane_x + WIDTH, lane_y
        yield (
            f'<path d="{path}{_curve(x, y, *end)}" stroke="{colour}" class="link"/>',
            f'<circle cx="{end[0]}" cy="{end[1]}" r="4.5" fill="{colour}" class="dot"/>',
        )


def _curve(x0: int, y0: int, x1: int, y1: int) -> str:
    bend = max(24, abs(x1 - x0) // 2)
    return f"C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}"


def _row(y: int, row: int) -> int:
    """The middle of a row of the box that begins at y."""
    return y + HEAD + ROW * row + ROW // 2


def _colour(kind: str) -> str:
    known = COLOURS.get(kind)
    return known or OTHERS[blake2b(kind.encode(errors="replace"), digest_size=1).digest()[0] % len(OTHERS)]


def _text(x: int, y: int, kind: str, text: str, length: int) -> str:
    """One line; what XML cannot hold is left out."""
    text = " ".join(re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text).split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>' if text else ""
