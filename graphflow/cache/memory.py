"""Memory as a store: recipe -> entry, least recently used first out, within a byte budget."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import NamedTuple

from ..values import measure, size_of
from .entry import CacheEntry, Origin, with_all_behind
from .store import Alias, Batch, Kept, Put, Written

__all__ = ["MemoryTier"]

DEFAULT_BUDGET = 2 << 30
# What an entry takes besides its values, in bytes of CPython; a test compares them with what is allocated.
ENTRY, KEY, CONTENT, ORIGIN, LINK = 500, 300, 73, 400, 165


class MemoryTier:
    """Thread-safe. An entry larger than the budget is not kept. Memory that entries share counts once."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.bytes = 0
        self._entries: OrderedDict[bytes, _Held] = OrderedDict()
        self._keys: dict[bytes, dict[bytes, None]] = {}
        """Key -> the recipes that have it."""
        self._memories: dict[int, list[int]] = {}
        """Identity of a memory -> [how many entries hold it, its bytes]."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def can_keep(self) -> bool:
        return self.budget > 0

    def get(self, recipe: bytes) -> Kept | None:
        with self._lock:
            found = self._entries.get(recipe)
            if found is None:
                return None
            self._entries.move_to_end(recipe)
            return found.kept

    def find(self, key: bytes) -> Kept | None:
        with self._lock:
            recipe = self._of_key(key)
        return self.get(recipe) if recipe is not None else None

    def _of_key(self, key: bytes | None) -> bytes | None:
        """The newest of them: what an older one wrote may be gone."""
        return next(reversed(self._keys.get(key, {})), None) if key is not None else None

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> CacheEntry | None:
        """As `get` or `find`; it does not count as use."""
        with self._lock:
            known = recipe if recipe is not None else self._of_key(key)
            found = self._entries.get(known) if known is not None else None
            return found.kept.entry if found is not None else None

    def fetch(self, recipes: Sequence[bytes]) -> None:
        """It is near enough."""

    def write(self, batch: Batch) -> Written:
        gone: set[bytes] = set()
        for change in batch.changes:
            if isinstance(change, Put):
                self.put(change.recipe, change.entry, change.key, change.origin, change.encoded is not None)
            elif isinstance(change, Alias):
                is_stored = None not in change.entry.contents
                self.put(change.recipe, change.entry, change.key, change.origin, is_stored)
            else:
                gone |= self.replace(change.recipe, change.key, change.entry)
        return Written(gone=frozenset(gone))

    def put(
        self,
        recipe: bytes,
        entry: CacheEntry,
        key: bytes | None = None,
        origin: Origin | None = None,
        is_stored: bool = False,
    ) -> None:
        """`is_stored`: the stores behind the memory have it, too."""
        structure, memories = measure(entry.outputs)
        kept = Kept(entry, recipe, key, origin)
        held = _Held(kept, structure + _bytes_around(kept), memories, is_stored)
        with self._lock:
            self._forget(recipe)
            if held.size + sum(memories.values()) > self.budget:
                return
            self._entries[recipe] = held
            self.bytes += held.size
            for memory, size in memories.items():
                known = self._memories.setdefault(memory, [0, size])
                known[0] += 1
                if known[0] == 1:
                    self.bytes += size
            if key is not None:
                self._keys.setdefault(key, {})[recipe] = None
            while self.bytes > self.budget:
                self._forget(next(iter(self._entries)))

    def _forget(self, recipe: bytes) -> None:
        old = self._entries.pop(recipe, None)
        if old is None:
            return
        self.bytes -= old.size
        for memory in old.memories:
            known = self._memories[memory]
            known[0] -= 1
            if known[0] == 0:
                self.bytes -= known[1]
                del self._memories[memory]
        key = old.kept.key
        if key is not None:
            alike = self._keys[key]
            del alike[recipe]
            if not alike:
                del self._keys[key]

    def stored(self, recipe: bytes) -> Kept | None:
        """An entry that is, or should be, in the stores behind the memory, too."""
        with self._lock:
            found = self._entries.get(recipe)
        if found is None or not found.is_stored or found.kept.origin is None:
            return None
        return found.kept

    def forget(self, recipes: Iterable[bytes]) -> None:
        with self._lock:
            for recipe in recipes:
                self._forget(recipe)

    def replace(self, recipe: bytes, key: bytes | None, entry: CacheEntry | None) -> frozenset[bytes]:
        """Forget entries of this recipe or this key that differ from the entry (None: all of them), and all that stand
        on one whose outputs were others. Returns those whose outputs were, or may be, others."""
        with self._lock:
            wrong: set[bytes] = set()
            changed: set[bytes] = set()
            for known in (recipe, *(self._keys.get(key, ()) if key is not None else ())):
                held = self._entries.get(known)
                if held is not None:
                    old = held.kept.entry
                    if entry is None or old.contents != entry.contents or None in entry.contents:
                        changed.add(known)
                    if known in changed or (entry is not None and old.ui != entry.ui):
                        wrong.add(known)
            if changed:
                users: dict[bytes, list[bytes]] = {}
                for known, held in self._entries.items():
                    origin = held.kept.origin
                    for source, _ in origin.links.values() if origin is not None else ():
                        users.setdefault(source, []).append(known)
                changed = with_all_behind(changed, users)
            for known in wrong | changed:
                self._forget(known)
            return frozenset(changed)

    def origins(self, kind: str) -> Iterator[tuple[Origin, float]]:
        with self._lock:
            known = [held.kept for held in reversed(self._entries.values())]
        for kept in known:
            if kept.origin is not None and kept.origin.type == kind:
                yield kept.origin, kept.entry.created

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._keys.clear()
            self._memories.clear()
            self.bytes = 0


def _bytes_around(kept: Kept) -> int:
    """The bytes of an entry besides its outputs: for small values, that is nearly all."""
    entry, origin = kept.entry, kept.origin
    size = ENTRY + CONTENT * sum([content is not None for content in entry.contents])
    if kept.key is not None:
        size += KEY
    if entry.ui:
        size += sys.getsizeof(entry.ui) + size_of(entry.ui)
    if origin is not None:
        literals = sum([sys.getsizeof(v) if type(v) in _PLAIN else size_of(v) for v in origin.literals.values()])
        size += ORIGIN + LINK * len(origin.links) + literals + (size_of(origin.reads) if origin.reads else 0)
    return size


_PLAIN = frozenset({int, float, str, bool})


class _Held(NamedTuple):
    kept: Kept
    size: int
    """Bytes of everything but the memories."""
    memories: Mapping[int, int]
    is_stored: bool
