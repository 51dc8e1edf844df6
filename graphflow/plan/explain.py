"""Why a node would be computed, or not, if the workflow ran now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Any

from ..cache import Cache, CacheEntry, LongLiteral, Origin, literal_digest
from ..check.validate import Bound
from ..document.workflow import Workflow
from ..nodetype.node import NodeType
from ..nodetype.reads import changes
from ..settings import Settings
from .calls import look_outside
from .fingerprint import Fingerprint, answered, content_key, why_not
from .plan import needed

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a node is cached, and why."""

    node: str
    title: str
    hit: bool
    why: str
    is_title_shared: bool = False
    """Another node of the workflow has the same title: the text names the id, too."""

    def __str__(self) -> str:
        name = f"{self.title} [{self.node}]" if self.is_title_shared else self.title
        return f"{name}: {'hit' if self.hit else 'miss'}, {self.why}"


def explain(
    workflow: Workflow,
    order: Mapping[str, Bound],
    prints: Mapping[str, Fingerprint],
    cache: Cache,
    settings: Settings,
    wanted: Iterable[str],
    types: Mapping[str, NodeType],
) -> list[Explanation]:
    """One explanation for each node that the wanted ones stand on, in the order in which they would run."""
    asked = needed(order, wanted)
    earlier = _Earlier(cache)
    entries: dict[str, CacheEntry] = {}
    read: dict[str, Callable[[], CacheEntry | None]] = {}
    """How to get the whole of each."""
    titles = {key: workflow[key].title or order[key].type.name for key in order}
    counts = Counter(titles.values())
    found = []
    for node_id in (key for key in order if key in asked):
        node, mine, title = order[node_id], prints[node_id], titles[node_id]
        if mine.asks_late:
            mine = _asked(node, mine, settings, read)
        entry, why, whole = _known(node, mine, cache, entries)
        wrong = why_not(entry, node.type, types, settings) if entry is not None else None
        if entry is not None and wrong is None:
            entries[node_id], read[node_id] = entry, whole
        else:
            why = wrong or _why(node_id, order, mine, prints, earlier, entries)
        found.append(Explanation(node_id, title, node_id in entries, why, is_title_shared=counts[title] > 1))
    return found


def _known(
    node: Bound, mine: Fingerprint, cache: Cache, hits: Mapping[str, CacheEntry]
) -> tuple[CacheEntry | None, str, Callable[[], CacheEntry | None]]:
    """The entry of a node in the cache, why it is one, and how to get the whole of it."""
    entry = cache.peek(mine.recipe) if not mine.is_volatile else None
    if entry is not None:
        return entry, f"nothing has changed since the run of {_clock(entry.created)}", partial(cache.get, mine.recipe)

    def content(source: str, slot: int) -> bytes | None:
        return hits[source].contents[slot] if source in hits else None

    key = content_key(mine, node, content)
    is_by_content = mine.is_volatile or mine.is_open
    why = "its inputs have the same content" if is_by_content else "upstream changed, same content"
    return cache.peek(None, key) if key is not None else None, why, partial(cache.find, key or b"")


@dataclass(frozen=True, slots=True)
class _Run:
    """An earlier run of a node type that the cache has kept something of."""

    origin: Origin
    created: float
    digests: Mapping[str, str]
    """Of its literals."""


class _Earlier:
    """The earlier runs of each node type, read once."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._found: dict[str, list[_Run]] = {}

    def __getitem__(self, kind: str) -> list[_Run]:
        if kind not in self._found:
            self._found[kind] = [
                _Run(origin, created, _digests(origin.literals)) for origin, created in self._cache.origins(kind)
            ]
        return self._found[kind]


def _digests(literals: Mapping[str, Any]) -> dict[str, str]:
    return {name: literal_digest(value) for name, value in literals.items()}


def _why(
    node_id: str,
    order: Mapping[str, Bound],
    mine: Fingerprint,
    prints: Mapping[str, Fingerprint],
    earlier: _Earlier,
    hits: Mapping[str, CacheEntry],
) -> str:
    """The differences from the most similar earlier run of this node type."""
    node, reads = order[node_id], mine.reads or {}
    if mine.is_new:
        return "it gives something new every time"
    runs = earlier[node.type.name]
    if not runs:
        parts = " as a whole: the nodes that it brings are cached one by one" if node.type.expands else ""
        return f"no earlier run of it is known{parts}"
    links = {name: (prints[link.node].recipe, link.slot) for name, link in node.links.items()}
    digests = _digests(node.literals)

    def distance(run: _Run) -> tuple[int, int, bool, float]:
        origin = run.origin
        things = sum(reads.get(name) != origin.reads.get(name) for name in reads.keys() | origin.reads.keys())
        count = len(run.digests.items() ^ digests.items()) + len(origin.links.items() ^ links.items())
        count += 2 * (
            (mine.outside != origin.outside and not mine.asks_late) + (mine.environment != origin.environment)
        )
        return count + 2 * (mine.version != origin.version), things, origin.node != node_id, -run.created

    best = min(runs, key=distance)
    differences = [
        *_literals(node, best, digests),
        *_links(node, mine, best.origin, links, hits),
        *_own(node_id, node, mine, best.origin),
    ]
    if not differences:
        return f"what differs from the run of {_clock(best.created)} is not written down"
    return f"{'; '.join(differences[:4])} since the run of {_clock(best.created)}"


def _literals(node: Bound, run: _Run, digests: Mapping[str, str]) -> Iterator[str]:
    before = run.origin.literals
    for name in sorted(digests.keys() | before.keys()):
        if digests.get(name) == run.digests.get(name) or name in node.links or name in run.origin.links:
            continue
        if name not in before:
            yield f"`{name}` is new"
        elif name not in digests:
            yield f"`{name}` is gone"
        elif isinstance(before[name], LongLiteral):
            yield f"`{name}` is another"
        else:
            yield f"`{name}` {' -> '.join(_short(repr(before[name]), repr(node.literals[name])))}"


def _links(
    node: Bound,
    mine: Fingerprint,
    origin: Origin,
    links: Mapping[str, tuple[bytes, int]],
    hits: Mapping[str, CacheEntry],
) -> Iterator[str]:
    for name in sorted(links.keys() | origin.links.keys()):
        if name not in links:
            yield f"`{name}` is not linked any more" if name in node.literals else f"`{name}` is gone"
            continue
        source = node.links[name].node
        if name not in origin.links:
            yield f"`{name}` is linked" if name in origin.literals else f"`{name}` is new"
        elif source not in hits and (links[name] != origin.links[name] or mine.is_volatile):
            yield f"upstream will be computed (`{name}`, node {source})"
        elif source not in hits and mine.is_open:
            yield f"only the run shows whether its input is the same (`{name}`, node {source})"
        elif links[name] != origin.links[name]:
            yield f"upstream changed (`{name}`, node {source})"


def _own(node_id: str, node: Bound, mine: Fingerprint, origin: Origin) -> Iterator[str]:
    kind, reads = node.type, mine.reads or {}
    if mine.outside != origin.outside and not mine.asks_late:
        yield from (list(changes(origin.reads, reads)) if reads and origin.reads else None) or [_outside(kind)]
    if mine.environment != origin.environment:
        before, now = _other_parts(origin.environment, mine.environment)
        if before.startswith(VARIABLES) and now.startswith(VARIABLES):
            yield "environment variables that its pack reads changed"
        else:
            yield f"{before} -> {now}"
    if mine.version != origin.version:
        yield "the code of the node changed"
    if kind.by_id and origin.node != node_id:
        yield f"its id was {origin.node}, and its result depends on it"


def _asked(
    node: Bound, mine: Fingerprint, settings: Settings, read: Mapping[str, Callable[[], CacheEntry | None]]
) -> Fingerprint:
    """With the answer of `outside` to the linked inputs that it asks about; as it is where one of them is not known
    yet."""
    values = dict(node.literals)
    for name in node.links.keys() & node.type.asks_about:
        link = node.links[name]
        entry = read[link.node]() if link.node in read else None
        if entry is None or entry.outputs is None:
            return mine
        values[name] = entry.outputs[link.slot]
    return answered(mine, *look_outside(node, settings, lambda: values))


def _other_parts(before: str | None, now: str | None) -> tuple[str, str]:
    """Of two lists such as `cpu; torch 2.4; numpy 2.1` what is in one alone."""
    parts, parts_now = (before or "nothing").split("; "), (now or "nothing").split("; ")
    gone, new = [p for p in parts if p not in parts_now], [p for p in parts_now if p not in parts]
    return ("; ".join(gone) or "nothing", "; ".join(new) or "nothing")


def _outside(kind: NodeType) -> str:
    """The reason "it changed outside", in words that depend on the kind of node."""
    if kind.pack and not kind.is_loose:
        return "IS_CHANGED answers something else"
    reads_file = any(item.choice is not None for item in kind.inputs.values())
    return "the file changed" if reads_file else "what it reads from outside changed"


VARIABLES = "variables "
"""What the digest of the variables that a pack reads begins with (see foreign/pack_source.py)."""
_LONGEST = 40
_ROUND = 10
"""Characters that are shown before the place where two long texts part."""


def _short(before: str, now: str) -> tuple[str, str]:
    """Both texts, of long ones the part in which they differ."""
    start = 0
    if max(len(before), len(now)) > _LONGEST:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False))
        start = max(0, sum(1 for _ in same) - _ROUND)
    return _part(before, start), _part(now, start)


def _part(text: str, start: int) -> str:
    end = start + _LONGEST - 6
    if len(text) <= _LONGEST and not start:
        return text
    return ("..." if start else "") + text[start:end] + ("..." if end < len(text) else "")


def _clock(created: float) -> str:
    at = datetime.fromtimestamp(created)
    return f"{at:%H:%M}" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d %H:%M}"
