"""The memory tier: recipe -> entry, least recently used first out, within a byte budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from ..values import size_of
from .entry import Entry, Origin

__all__ = ["MemoryTier"]

DEFAULT_BUDGET = 2 << 30
OVERHEAD = 400
"""Bytes of an entry besides its values, about."""


class MemoryTier:
    """Thread-safe. An entry larger than the budget is not kept."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.bytes = 0
        self._entries: OrderedDict[bytes, tuple[Entry, int, bytes | None, Origin | None]] = OrderedDict()
        self._keys: dict[bytes, bytes] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, recipe: bytes) -> Entry | None:
        with self._lock:
            found = self._entries.get(recipe)
            if found is None:
                return None
            self._entries.move_to_end(recipe)
            return found[0]

    def find(self, key: bytes) -> Entry | None:
        recipe = self._keys.get(key)
        return self.get(recipe) if recipe is not None else None

    def put(self, recipe: bytes, entry: Entry, key: bytes | None = None, origin: Origin | None = None) -> None:
        size = size_of(entry.outputs) + OVERHEAD
        with self._lock:
            self._forget(recipe)
            if size > self.budget:
                return
            self._entries[recipe] = (entry, size, key, origin)
            self.bytes += size
            if key is not None:
                self._keys[key] = recipe
            while self.bytes > self.budget:
                self._forget(next(iter(self._entries)))

    def _forget(self, recipe: bytes) -> None:
        old = self._entries.pop(recipe, None)
        if old is not None:
            self.bytes -= old[1]
            if old[2] is not None and self._keys.get(old[2]) == recipe:
                del self._keys[old[2]]

    def origins(self, kind: str) -> Iterator[tuple[Origin, Entry]]:
        """What is known of the entries of a node type, newest first."""
        with self._lock:
            known = list(reversed(self._entries.values()))
        for entry, _, _, origin in known:
            if origin is not None and origin.type == kind:
                yield origin, entry

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._keys.clear()
            self.bytes = 0
