"""Several stores as one: memory before a folder before a level that machines share.

What a store further back has is handed to those before it. Memory is written at once, the others by a thread, one after
the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock

from ..values import Unstorable, encode
from .entry import CacheEntry, Origin
from .memory import MemoryTier
from .store import Alias, Batch, Change, Kept, Put, Replace, Store, json_of
from .writer import Writer

__all__ = ["Tiers"]


class Tiers:
    """`memory`, and the stores `behind` it, near ones first. `done(put, kept)` is called when an entry that was put is
    written to all of them; `kept`: the nearest has it."""

    def __init__(self, memory: MemoryTier, behind: Sequence[Store], done: Callable[[Put, bool], None]) -> None:
        self._memory, self._behind, self._done = memory, tuple(behind), done
        self._writer = Writer(self._write, self._written)
        self._used: dict[bytes, float] = {}
        self._lock = Lock()
        self._pending: set[bytes] = set()
        """Recipes that wait to be written."""

    @property
    def can_keep(self) -> bool:
        """Whether a store behind the memory keeps what is put now."""
        return any(store.can_keep for store in self._behind)

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, recipe: bytes) -> CacheEntry | None:
        """The entry of a recipe that is not in memory; it is afterwards."""
        for place, store in enumerate(self._behind):
            found = store.get(recipe)
            if found is not None:
                if found.entry.outputs is not None:
                    self._memory.put(recipe, found.entry, found.key, found.origin, is_stored=True)
                self._bring_near(found, place)
                return found.entry
        return None

    def find(self, key: bytes) -> CacheEntry | None:
        found = self._memory.find(key)
        if found is not None:
            return found.entry
        for place, store in enumerate(self._behind):
            found = store.find(key)
            if found is not None:
                self._bring_near(found, place)
                return found.entry
        return None

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> CacheEntry | None:
        for store in (self._memory, *self._behind):
            found = store.peek(recipe, key)
            if found is not None:
                return found
        return None

    def fetch(self, recipes: Sequence[bytes]) -> None:
        """Each store is asked for what those before it lack."""
        for place, store in enumerate(self._behind):
            if place:
                near = self._behind[place - 1]
                recipes = [recipe for recipe in recipes if near.peek(recipe) is None]
            store.fetch(recipes)

    def origins(self, kind: str) -> Iterator[tuple[Origin, float]]:
        for store in (self._memory, *self._behind):
            yield from store.origins(kind)

    def _bring_near(self, found: Kept, place: int) -> None:
        """Let the stores before the one at this place, and nobody else, keep it as well."""
        if place and found.encoded is not None:
            self._send(
                Put(
                    found.recipe,
                    found.key,
                    found.entry,
                    found.origin,
                    found.encoded,
                    json_of(found.entry.ui),
                    is_shared=True,
                )
            )

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(self, put: Put) -> bool:
        """Keep an entry. Returns at once unless too much is waiting to be written; False where no store behind the
        memory keeps it, and `done` will not be called."""
        if not put.entry.loose:
            self._memory.put(put.recipe, put.entry, put.key, put.origin, is_stored=put.encoded is not None)
        if put.encoded is None or not self.can_keep:
            return False
        try:
            ui = json_of(put.entry.ui)
        except (TypeError, ValueError, RecursionError):
            return False
        self._send(put._replace(ui=ui))
        return True

    def change(self, change: Alias | Replace) -> None:
        gone = self._memory.write(Batch((change,))).gone
        if self.can_keep:
            self._send(change if isinstance(change, Alias) else change._replace(stale=gone))

    def touch(self, recipe: bytes) -> None:
        """An entry was used; it is noted soon, so that no other process evicts it from under a running graph."""
        if self.can_keep:
            with self._lock:
                self._used[recipe] = time.time()
            self._writer.poke()

    def flush(self) -> None:
        """Wait until all that was put is written, and what was found to be lost while it was written."""
        self._writer.flush()
        if self._pending:
            self._writer.flush()

    def _send(self, change: Change) -> None:
        if not isinstance(change, Replace):
            self._pending.add(change.recipe)
        self._writer.put(change)

    def _write(self, changes: list[Change]) -> bool:
        with self._lock:
            used, self._used = self._used, {}
        kept: list[bool] = []
        gone: frozenset[bytes] = frozenset()
        for store in self._behind:
            written = store.write(Batch(changes, used, gone))
            kept.append(written.kept)
            gone |= written.gone
            self._put_again([recipe for recipe in written.lost if recipe not in self._pending])
        self._memory.forget(gone)
        return kept[0]

    def _written(self, change: Change, kept: bool) -> None:
        self._pending.discard(change.recipe)
        if isinstance(change, Put):
            self._done(change, kept)

    def _put_again(self, recipes: list[bytes]) -> None:
        """Somebody has removed from a store what this process still has in memory, and uses."""
        for recipe in recipes:
            held = self._memory.stored(recipe)
            if held is not None and held.entry.outputs is not None:
                with suppress(Unstorable):
                    encoded = tuple([encode(value) for value in held.entry.outputs])
                    self.put(Put(held.recipe, held.key, held.entry, held.origin, encoded))
