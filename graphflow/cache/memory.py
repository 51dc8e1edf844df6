"""The memory tier: recipe -> entry, least recently used first out, within a byte budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock

from ..values import measure
from .entry import Entry, Origin, with_all_behind

__all__ = ["MemoryTier"]

DEFAULT_BUDGET = 2 << 30
OVERHEAD = 400
"""Bytes of an entry besides its values, about."""


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

    def get(self, recipe: bytes) -> Entry | None:
        with self._lock:
            found = self._entries.get(recipe)
            if found is None:
                return None
            self._entries.move_to_end(recipe)
            return found.entry

    def find(self, key: bytes) -> Entry | None:
        with self._lock:
            recipe = self._of_key(key)
        return self.get(recipe) if recipe is not None else None

    def _of_key(self, key: bytes | None) -> bytes | None:
        """The newest of them: what an older one wrote may be gone."""
        return next(reversed(self._keys.get(key, {})), None) if key is not None else None

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> Entry | None:
        """As `get` or `find`, without counting it as use."""
        with self._lock:
            known = recipe if recipe is not None else self._of_key(key)
            found = self._entries.get(known) if known is not None else None
            return found.entry if found is not None else None

    def put(
        self, recipe: bytes, entry: Entry, key: bytes | None = None, origin: Origin | None = None,
        is_stored: bool = False,
    ) -> None:  # fmt: skip
        """`is_stored`: it is in the disk tier, too."""
        structure, memories = measure(entry.outputs)
        held = _Held(entry, structure + OVERHEAD, memories, key, origin, is_stored)
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
        if old.key is not None:
            alike = self._keys[old.key]
            del alike[recipe]
            if not alike:
                del self._keys[old.key]

    def stored(self, recipe: bytes) -> tuple[Entry, bytes | None, Origin] | None:
        """The entry, key and origin of what is, or should be, in the disk tier, too."""
        with self._lock:
            found = self._entries.get(recipe)
        if found is None or not found.is_stored or found.origin is None:
            return None
        return found.entry, found.key, found.origin

    def forget(self, recipes: Iterable[bytes]) -> None:
        with self._lock:
            for recipe in recipes:
                self._forget(recipe)

    def replace(self, recipe: bytes, key: bytes | None, entry: Entry | None) -> frozenset[bytes]:
        """Forget what says something else than the entry for this recipe or this key (None: all of it), and all that
        stands on one whose outputs were others. Gives those whose outputs were, or may be, others."""
        with self._lock:
            wrong: set[bytes] = set()
            changed: set[bytes] = set()
            for known in (recipe, *(self._keys.get(key, ()) if key is not None else ())):
                held = self._entries.get(known)
                if held is not None:
                    if entry is None or held.entry.contents != entry.contents or None in entry.contents:
                        changed.add(known)
                    if known in changed or (entry is not None and held.entry.ui != entry.ui):
                        wrong.add(known)
            if changed:
                users: dict[bytes, list[bytes]] = {}
                for known, held in self._entries.items():
                    for source, _ in held.origin.links.values() if held.origin is not None else ():
                        users.setdefault(source, []).append(known)
                changed = with_all_behind(changed, users)
            for known in wrong | changed:
                self._forget(known)
            return frozenset(changed)

    def origins(self, kind: str) -> Iterator[tuple[Origin, Entry]]:
        """What is known of the entries of a node type, newest first."""
        with self._lock:
            known = list(reversed(self._entries.values()))
        for held in known:
            if held.origin is not None and held.origin.type == kind:
                yield held.origin, held.entry

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._keys.clear()
            self._memories.clear()
            self.bytes = 0


@dataclass(frozen=True, slots=True)
class _Held:
    entry: Entry
    size: int
    """Bytes of everything but the memories."""
    memories: Mapping[int, int]
    key: bytes | None
    origin: Origin | None
    is_stored: bool
