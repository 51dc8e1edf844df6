"""The nodes behind a cached one that are known to the cache, too: nobody needs them, but they are reported as
cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..cache import Cache, CacheEntry
from ..check.validate import Bound
from ..plan.fingerprint import Fingerprint, content_key

__all__ = ["known_behind"]


def known_behind(
    node_id: str,
    order: Mapping[str, Bound],
    prints: Mapping[str, Fingerprint],
    cache: Cache,
    entries: Mapping[str, CacheEntry],
    *,
    is_reported: Callable[[str], bool],
    is_valid: Callable[[str, CacheEntry], bool],
) -> Iterator[tuple[str, CacheEntry]]:
    """The known ones, sources first, without their outputs; what lies behind a reported node is not looked at.
    `entries` are those of the run so far."""
    found: dict[str, CacheEntry] = {}

    def content(source: str, slot: int) -> bytes | None:
        entry = found.get(source) or entries.get(source) or cache.peek(prints[source].recipe)
        return entry.contents[slot] if entry is not None and slot < len(entry.contents) else None

    for source in _unreported(node_id, order, is_reported):
        mine = prints[source]
        entry = cache.peek(mine.recipe)
        if entry is None:
            key = content_key(mine, order[source], content)
            entry = cache.peek(None, key) if key is not None else None
        if entry is not None and is_valid(source, entry):
            found[source] = entry
            yield source, entry


def _unreported(node_id: str, order: Mapping[str, Bound], is_reported: Callable[[str], bool]) -> list[str]:
    """The nodes that a node stands on, sources first."""
    seen = {node_id}
    found: list[str] = []
    stack = [(node_id, iter(order[node_id].links.values()))]
    while stack:
        user, links = stack[-1]
        source = next((link.node for link in links if link.node not in seen and not is_reported(link.node)), None)
        if source is not None:
            seen.add(source)
            stack.append((source, iter(order[source].links.values())))
        else:
            stack.pop()
            found.append(user)
    return found[:-1]
