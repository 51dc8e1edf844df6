"""The memory tier: recipe -> outputs, least recently used first out, within a byte budget."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

__all__ = ["Entry", "MemoryCache", "size_of"]

DEFAULT_BUDGET = 2 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """What a node gave: its outputs, and what it showed (`ui`) if it is an output node."""

    outputs: tuple[Any, ...]
    ui: dict[str, Any] | None = None


def size_of(value: Any, seen: set[int]) -> int:
    """Bytes held by a value; a storage that several tensors share counts once. Knows tensors by their methods,
    so that the engine needs no torch."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    storage = getattr(value, "untyped_storage", None)
    if storage is not None:
        held = storage()
        key = held.data_ptr()
        if key in seen:
            return 0
        seen.add(key)
        return int(held.nbytes())
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if isinstance(value, Mapping):
        return 64 + sum(size_of(item, seen) for item in value.values())
    if isinstance(value, (list, tuple)):
        return 64 + sum(size_of(item, seen) for item in value)
    return sys.getsizeof(value)


class MemoryCache:
    """Thread-safe. An entry larger than the budget is not kept."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.bytes = 0
        self._entries: OrderedDict[bytes, tuple[Entry, int]] = OrderedDict()
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

    def put(self, recipe: bytes, entry: Entry) -> None:
        size = size_of(entry.outputs, set()) + 200
        with self._lock:
            old = self._entries.pop(recipe, None)
            if old is not None:
                self.bytes -= old[1]
            if size > self.budget:
                return
            self._entries[recipe] = (entry, size)
            self.bytes += size
            while self.bytes > self.budget:
                _, (_, freed) = self._entries.popitem(last=False)
                self.bytes -= freed

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.bytes = 0
