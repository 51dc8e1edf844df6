"""Places for the nodes of a graph: columns from left to right, no two boxes over each other, long links between boxes.

Columns by distance from the start; inside a column each box is near the mean height of what it is linked to (the
barycentre method of Sugiyama, Tagawa and Toda 1981), and a link that crosses columns holds a free line in each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from ..document.walks import knots, users_of

__all__ = ["Layout", "lay_out"]

SWEEPS = 4
LANE = 10
"""Height that a passing link takes in a column."""
FARTHEST = 12
"""A link over more columns than this is drawn straight, so that the work stays in proportion to the graph."""

Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    places: dict[str, tuple[int, int]]
    """Upper left corner of each box."""
    lanes: dict[Edge, list[tuple[int, int]]] = field(default_factory=dict)
    """For an edge that crosses columns: the height at which it does, at the left border of each."""
    width: int = 0
    height: int = 0


@dataclass(slots=True)
class _Item:
    """A box, or the piece of a passing link in one column (`key` is then an edge and a number)."""

    key: str | tuple[Edge, int]
    height: int
    before: list[_Item] = field(default_factory=list)
    after: list[_Item] = field(default_factory=list)
    y: float = 0.0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def lay_out(edges: Iterable[Edge], heights: Mapping[str, int], width: int, gap_x: int, gap_y: int) -> Layout:
    """Boxes of one width and these heights; `edges` from source to user. Cycles do no harm. Units are pixels."""
    edges = list(dict.fromkeys(edge for edge in edges if edge[0] != edge[1]))
    column = _columns(edges, heights)
    items = {key: _Item(key, height) for key, height in heights.items()}
    columns: list[list[_Item]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for key, item in items.items():
        columns[column[key]].append(item)
    crossing: dict[Edge, list[_Item]] = {}
    for source, target in edges:
        first, last = column[source], column[target]
        chain = [items[source]]
        if first + 1 < last <= first + FARTHEST:
            for number in range(first + 1, last):
                chain.append(_Item(((source, target), number), LANE))
                columns[number].append(chain[-1])
            crossing[source, target] = chain[1:]
        chain.append(items[target])
        if first < last:
            for left, right in pairwise(chain):
                left.after.append(right)
                right.before.append(left)
    _settle(columns, gap_y)
    top = min((item.y for items in columns for item in items), default=0.0)
    step = width + gap_x
    bottom = max((item.y + item.height for items in columns for item in items), default=0.0)
    return Layout(
        {key: (column[key] * step, round(item.y - top)) for key, item in items.items()},
        {
            edge: [((column[edge[0]] + 1 + index) * step, round(item.middle - top)) for index, item in enumerate(chain)]
            for edge, chain in crossing.items()
        },
        max(0, len(columns) * step - gap_x),
        round(bottom - top),
    )


def _columns(edges: list[Edge], keys: Iterable[str]) -> dict[str, int]:
    """Longest distance from a start; what has nothing before it moves right, next to its first user."""
    sources: dict[str, list[str]] = {key: [] for key in keys}
    for source, target in edges:
        sources[target].append(source)
    found: dict[str, int] = {}
    is_acyclic = True
    for knot in knots(sources):
        outside = [found[source] for key in knot for source in sources[key] if source in found]
        found.update(dict.fromkeys(knot, max(outside, default=-1) + 1))
        is_acyclic = is_acyclic and len(knot) == 1
    if is_acyclic:
        for key, users in users_of(sources).items():
            if users and not sources[key]:
                found[key] = min(found[user] for user in users) - 1
    return found


def _settle(columns: list[list[_Item]], gap: int) -> None:
    """Sweep left to right and back; each column is put in the order of the wished heights, then pushed apart."""
    for items in columns:
        _stack(items, gap)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for items in columns if forward else reversed(columns):
            wished: dict[int, float] = {}
            for item in items:
                near = (item.before if forward else item.after) or [item]
                wished[id(item)] = sum(other.middle for other in near) / len(near) - item.height / 2
            items.sort(key=lambda item: wished[id(item)])
            _push_apart(items, [wished[id(item)] for item in items], gap)


def _stack(items: list[_Item], gap: int) -> None:
    y = 0.0
    for item in items:
        item.y = y
        y += item.height + gap


def _push_apart(items: list[_Item], wished: list[float], gap: int) -> None:
    """Heights nearest to the wished ones (least squares) that keep the order and a gap: pool adjacent violators."""
    offset = 0.0
    blocks: list[tuple[float, int]] = []  # (mean wished height of the block's first item, items)
    for item, wish in zip(items, wished, strict=True):
        mean, count = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, count = (other * more + mean * count) / (more + count), more + count
        blocks.append((mean, count))
        offset += item.height + gap
    offset, at = 0.0, 0
    for mean, count in blocks:
        for item in items[at : at + count]:
            item.y = mean + offset
            offset += item.height + gap
        at += count
