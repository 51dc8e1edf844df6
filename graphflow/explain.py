"""Why a node would be computed, or not, if the workflow ran now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from .cache import Cache, Entry, Origin
from .execution.calls import look_outside
from .fingerprint import Fingerprint, answered, content_key, has_effect, is_current
from .node import NodeType
from .plan import needed
from .settings import Settings
from .validate import Bound
from .workflow import Workflow

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    node: str
    title: str
    hit: bool
    why: str

    def __str__(self) -> str:
        return f"{self.title}: {'hit' if self.hit else 'miss'}, {self.why}"


def explain(
    workflow: Workflow, order: Mapping[str, Bound], prints: Mapping[str, Fingerprint], cache: Cache, settings: Settings,
    wanted: Iterable[str], types: Mapping[str, NodeType],
) -> list[Explanation]:  # fmt: skip
    """One explanation for each node that the wanted ones stand on, in the order in which they would run."""
    asked = needed(order, wanted)
    entries: dict[str, Entry] = {}
    read: dict[str, Callable[[], Entry | None]] = {}
    """How to get the whole of each."""
    found = []
    for node_id in (key for key in order if key in asked):
        node, mine = order[node_id], prints[node_id]
        title = workflow[node_id].title or node.type.name

        def content(source: str, slot: int) -> bytes | None:
            entry = entries.get(source)
            return entry.contents[slot] if entry is not None else None

        if mine.asks_late:
            mine = _asked(node, mine, settings, read)
        key = None
        entry, why = cache.peek(mine.recipe) if not mine.is_volatile else None, "nothing has changed"
        if entry is None:
            key = content_key(mine, node, content)
            entry = cache.peek(None, key) if key is not None else None
            why = (
                "its inputs have the same content"
                if mine.is_volatile or mine.is_open
                else "upstream changed, same content"
            )
        if entry is not None and not all(is_current(part, types, settings) for part in entry.brought):
            entry = None
        if entry is not None and not has_effect(entry, node.type, settings):
            found.append(Explanation(node_id, title, False, "a file that it wrote is gone, or is another now"))
        elif entry is not None:
            entries[node_id] = entry
            read[node_id] = partial(cache.get, mine.recipe) if key is None else partial(cache.find, key)
            since = f" since the run of {_clock(entry.created)}" if why.startswith("nothing") else ""
            found.append(Explanation(node_id, title, True, why + since))
        else:
            found.append(Explanation(node_id, title, False, _why(node_id, order, mine, prints, cache, entries)))
    return found


def _why(
    node_id: str, order: Mapping[str, Bound], mine: Fingerprint, prints: Mapping[str, Fingerprint], cache: Cache,
    hits: Mapping[str, Entry],
) -> str:  # fmt: skip
    """What differs from the most similar earlier run of this node type."""
    node = order[node_id]
    if not node.type.deterministic:
        return "it gives something new every time"
    best: tuple[tuple[int, bool, float], list[str]] | None = None
    for origin, created in cache.origins(node.type.name):
        differences = _differences(node, mine, origin, prints, hits)
        rank = (len(differences), origin.node != node_id, -created)
        if best is None or rank < best[0]:
            best = (rank, differences)
    if best is None:
        return "it has never run"
    if not best[1]:
        return "it has run, but its result is not kept any more"
    return f"{'; '.join(best[1][:4])} since the run of {_clock(-best[0][2])}"


def _differences(
    node: Bound, mine: Fingerprint, origin: Origin, prints: Mapping[str, Fingerprint], hits: Mapping[str, Entry]
) -> list[str]:
    found = []
    for name in sorted(node.literals.keys() | origin.literals.keys()):
        now, before = node.literals.get(name, _NONE), origin.literals.get(name, _NONE)
        if now is not _NONE and before is not _NONE and (type(now) is not type(before) or now != before):
            found.append(f"`{name}` {_short(before)} -> {_short(now)}")
    for name in sorted(node.links.keys() | origin.links.keys()):
        link, before_link = node.links.get(name), origin.links.get(name)
        if link is None or before_link is None:
            found.append(f"`{name}` is {'linked' if link is not None else 'not linked any more'}")
        elif (prints[link.node].recipe, link.slot) != before_link:
            found.append(f"upstream changed (`{name}`, node {link.node})" if link.node in hits else
                         f"upstream will be computed (`{name}`, node {link.node})")  # fmt: skip
    if mine.outside != origin.outside and not mine.asks_late:
        found.append("the file changed")
    if mine.environment != origin.environment:
        found.append(f"{origin.environment} -> {mine.environment}")
    if mine.version != origin.version:
        found.append("the code of the node changed")
    return found


def _asked(
    node: Bound, mine: Fingerprint, settings: Settings, read: Mapping[str, Callable[[], Entry | None]]
) -> Fingerprint:
    """With what `outside` says of the linked inputs it asks about; as it is where one of them is not known yet."""
    values = dict(node.literals)
    for name in node.links.keys() & node.type.asks_about:
        link = node.links[name]
        entry = read[link.node]() if link.node in read else None
        if entry is None or entry.outputs is None:
            return mine
        values[name] = entry.outputs[link.slot]
    return answered(mine, look_outside(node, settings, lambda: values))


_NONE: Any = object()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _clock(created: float) -> str:
    at = datetime.fromtimestamp(created)
    return f"{at:%H:%M}" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d %H:%M}"
