"""A picture of a workflow: columns by distance from the start, curves for links. SVG or Mermaid text."""

from __future__ import annotations

from html import escape

import networkx as nx

from .workflow import NOTES, Workflow, as_link

__all__ = ["to_mermaid", "to_svg"]

WIDTH, ROW, HEAD, GAP_X, GAP_Y, MARGIN = 220, 18, 28, 70, 24, 20


def _graph(workflow: Workflow) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(key for key, node in workflow.items() if node.class_type not in NOTES)
    for key, node in workflow.items():
        for name, value in node.inputs.items():
            link = as_link(value)
            if link is not None and link.node in graph and key in graph:
                graph.add_edge(link.node, key, input=name)
    return graph


def _columns(graph: nx.MultiDiGraph) -> list[list[str]]:
    """Nodes by column, left to right; nodes of a cycle share one column."""
    knots = nx.condensation(nx.DiGraph(graph))
    return [
        [key for knot in sorted(layer) for key in sorted(knots.nodes[knot]["members"])]
        for layer in nx.topological_generations(knots)
    ]


def to_svg(workflow: Workflow) -> str:
    """A self-contained SVG."""
    graph = _graph(workflow)
    place: dict[str, tuple[int, int]] = {}
    body: list[str] = []
    width = height = 2 * MARGIN
    for column, keys in enumerate(_columns(graph)):
        x, y = MARGIN + column * (WIDTH + GAP_X), MARGIN
        for key in keys:
            place[key] = (x, y)
            node = workflow[key]
            inputs = list(node.inputs.items())
            tall = HEAD + ROW * len(inputs) + 8
            body.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{tall}" rx="8" class="node"/>')
            body.append(
                f'<text x="{x + 10}" y="{y + 19}" class="title">{escape(_short(node.title or node.class_type, 26))}</text>'
            )
            body.append(f'<text x="{x + WIDTH - 10}" y="{y + 19}" class="id">{escape(_short(key, 6))}</text>')
            for row, (name, value) in enumerate(inputs):
                line = y + HEAD + ROW * row + 13
                shown = "" if as_link(value) else _short(str(value), 18)
                body.append(f'<text x="{x + 10}" y="{line}" class="name">{escape(_short(name, 16))}</text>')
                body.append(f'<text x="{x + WIDTH - 10}" y="{line}" class="value">{escape(shown)}</text>')
            y += tall + GAP_Y
            width, height = max(width, x + WIDTH + MARGIN), max(height, y - GAP_Y + MARGIN)
    for source, target, data in graph.edges(data=True):
        row = list(workflow[target].inputs).index(data["input"])
        x0, y0 = place[source][0] + WIDTH, place[source][1] + HEAD // 2
        x1, y1 = place[target][0], place[target][1] + HEAD + ROW * row + 9
        bend = max(40, abs(x1 - x0) // 2)
        body.insert(0, f'<path d="M{x0} {y0}C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}" class="link"/>')
        body.append(f'<circle cx="{x1}" cy="{y1}" r="3.5" class="dot"/>')
    style = (
        "text{font:12px system-ui,sans-serif;fill:#334}.title{font-weight:600;fill:#113}.id,.value{text-anchor:end;fill:#778}"
        ".node{fill:#fff;stroke:#aab;stroke-width:1.2}.link{fill:none;stroke:#5b7fd0;stroke-width:1.8}.dot{fill:#5b7fd0}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#f4f5f9"/>{"".join(body)}</svg>\n'
    )


def to_mermaid(workflow: Workflow) -> str:
    """A Mermaid flowchart, which many viewers of Markdown draw."""
    graph = _graph(workflow)
    number = {key: index for index, key in enumerate(graph)}
    lines = ["flowchart LR"]
    for key, index in number.items():
        label = escape(workflow[key].title or workflow[key].class_type).replace('"', "'")
        lines.append(f'    n{index}["{label}"]')
    lines += [f"    n{number[a]} -->|{data['input']}| n{number[b]}" for a, b, data in graph.edges(data=True)]
    return "\n".join(lines) + "\n"


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
