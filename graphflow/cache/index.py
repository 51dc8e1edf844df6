"""The index of the disk tier: what is known of which recipe, and what can go.

It can be lost: what is worth keeping can be read again from the record files beside the blobs. SQLite has no checksums
of its own, so each row carries a seal, and a row that was read is the row that was asked for or counts as damage.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from .database import Transaction, classified, open_to_read, open_to_write
from .entry import Origin, origin_from_json, with_all_behind
from .rows import EntryRow, Replaced, Stored

__all__ = ["FILE_COST", "Index", "TypeStats", "origin_of"]

FILE_COST = 4096
"""Bytes that a blob takes on a disk besides its own, about: its record, and the rest of its last block."""
_RECIPE = re.compile(r'"([0-9a-f]{32})"')
"""The recipes that an entry stands on, in the JSON of its origin; a literal that looks like one does no harm."""
AT_ONCE = 1000
"""Entries removed in one transaction at most, so that other processes get their turn."""

_COLUMNS = "recipe, key, type, ui, rebuilt, seconds, created, origin, brought, effect, seal"


class IndexOutcome(NamedTuple):
    """The outcome of changes to the index."""

    gone: set[bytes]
    """Recipes that it knows no more."""
    unneeded: set[bytes]
    """Contents of blobs that no entry needs any more."""
    lost: list[bytes]
    """Recipes that were used, but that it does not know."""


@dataclass(frozen=True, slots=True)
class TypeStats:
    type: str
    entries: int
    bytes: int
    hits: int
    saved: float
    """Seconds that the hits would have taken to compute."""


class Index:
    """Thread-safe. Every method may raise sqlite3.OperationalError (busy, full, not readable: it may pass), or
    sqlite3.DatabaseError: it is damaged."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._lock = RLock()
        self._path = path
        with classified():
            self._db = open_to_read(path) if read_only else open_to_write(path)

        self._inode = _inode(path)

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed or replaced: what is written now would be lost."""
        return _inode(self._path) != self._inode

    def get(self, recipe: bytes) -> EntryRow | None:
        found = self._one("recipe", recipe)
        if found is not None and found.recipe != recipe:
            raise sqlite3.DatabaseError("it gives another entry than was asked for")
        return found

    def find(self, key: bytes) -> EntryRow | None:
        """The newest entry of a key: what an older one wrote may be gone."""
        found = self._one("key", key)
        if found is not None and found.key != key:
            raise sqlite3.DatabaseError("it gives another entry than was asked for")
        return found

    def _one(self, column: str, value: bytes) -> EntryRow | None:
        with self._alone():
            found = self._db.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE {column} = ? ORDER BY created DESC LIMIT 1", (value,)
            ).fetchone()
            if found is None:
                return None
            outputs = self._db.execute(
                "SELECT content, bytes, data FROM outputs WHERE recipe = ? ORDER BY slot", (found[0],)
            ).fetchall()
            return _row(found, outputs)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock, classified():
            yield

    def put(self, changes: Iterable[EntryRow | Replaced], used: Iterable[tuple[float, bytes]] = ()) -> IndexOutcome:
        """Make changes in their order, and count hits, in one transaction."""
        gone: set[bytes] = set()
        freed: set[bytes] = set()
        with self._alone(), Transaction(self._db):
            for change in changes:
                if isinstance(change, EntryRow):
                    self._insert(change)
                    gone.discard(change.recipe)
                else:
                    wrong = self._wrong(change)
                    freed.update(self._blobs_of(wrong))
                    self._delete(wrong)
                    gone.update(wrong)
            used = list(used)
            counted = self._db.executemany(
                "UPDATE entries SET used = ?, hits = hits + 1 WHERE recipe = ?", used
            ).rowcount
            lost = [recipe for _, recipe in used if not self._has(recipe)] if counted < len(used) else []
            return IndexOutcome(gone, {content for content in freed if self._is_unneeded(content)}, lost)

    def _has(self, recipe: bytes) -> bool:
        return self._db.execute("SELECT 1 FROM entries WHERE recipe = ?", (recipe,)).fetchone() is not None

    def _insert(self, row: EntryRow) -> None:
        self._db.execute("DELETE FROM outputs WHERE recipe = ?", (row.recipe,))
        self._db.execute(
            f"INSERT OR REPLACE INTO entries ({_COLUMNS}, bytes, used) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                row.recipe,
                row.key,
                row.type,
                row.ui,
                row.rebuilt,
                row.seconds,
                row.created,
                row.origin,
                row.brought,
                row.effect,
                row.seal(),
                sum(item.size for item in row.outputs),
                row.created,
            ),
        )
        for slot, item in enumerate(row.outputs):
            self._db.execute(
                "INSERT INTO outputs VALUES (?,?,?,?,?)", (row.recipe, slot, item.content, item.size, item.data)
            )
            if item.data is None and item.size:
                self._db.execute("INSERT OR IGNORE INTO blobs VALUES (?,?)", (item.content, item.size))

    def _wrong(self, change: Replaced) -> set[bytes]:
        """The recipes whose result differs from the change, and all that stand on one whose outputs were others."""
        wrong: set[bytes] = set()
        changed = set(change.stale)
        rows = self._db.execute(
            "SELECT recipe, ui FROM entries WHERE recipe = ? OR key = ?", (change.recipe, change.key)
        )
        for recipe, ui in rows.fetchall():
            found = self._db.execute("SELECT content FROM outputs WHERE recipe = ? ORDER BY slot", (recipe,)).fetchall()
            if tuple(content for (content,) in found) != change.contents:
                changed.add(recipe)
            if recipe in changed or ui != change.ui:
                wrong.add(recipe)
        if changed:
            users: dict[bytes, list[bytes]] = {}
            for recipe, origin in self._db.execute("SELECT recipe, origin FROM entries"):
                for source in _RECIPE.findall(origin):
                    users.setdefault(bytes.fromhex(source), []).append(recipe)
            changed = with_all_behind(changed, users)
        return wrong | changed

    def _blobs_of(self, recipes: Iterable[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        for recipe in recipes:
            rows = self._db.execute(
                "SELECT content FROM outputs WHERE recipe = ? AND data IS NULL AND bytes > 0", (recipe,)
            )
            found.update(content for (content,) in rows)
        return found

    def _is_unneeded(self, content: bytes) -> bool:
        """Whether no entry needs a blob; then it is forgotten."""
        if self._db.execute("SELECT 1 FROM outputs WHERE content = ? LIMIT 1", (content,)).fetchone() is not None:
            return False
        self._db.execute("DELETE FROM blobs WHERE content = ?", (content,))
        return True

    def clear(self) -> None:
        """Forget everything, and give the space back if nobody else is at work here."""
        with self._alone():
            with Transaction(self._db):
                for table in ("entries", "outputs", "blobs"):
                    self._db.execute(f"DELETE FROM {table}")
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("VACUUM")

    def forget_content(self, content: bytes) -> list[bytes]:
        """Drop a damaged blob and all entries that need it; their recipes."""
        with self._alone(), Transaction(self._db):
            gone = [row[0] for row in self._db.execute("SELECT recipe FROM outputs WHERE content = ?", (content,))]
            self._delete(gone)
            self._db.execute("DELETE FROM blobs WHERE content = ?", (content,))
        return gone

    def _delete(self, recipes: Collection[bytes]) -> None:
        self._db.executemany("DELETE FROM outputs WHERE recipe = ?", [(recipe,) for recipe in recipes])
        self._db.executemany("DELETE FROM entries WHERE recipe = ?", [(recipe,) for recipe in recipes])

    def total_bytes(self) -> int:
        """The bytes of the folder on the disk, about: blobs, their records, and the index itself."""
        with self._alone():
            size, count = self._db.execute("SELECT coalesce(sum(bytes), 0), count(*) FROM blobs").fetchone()
            return int(size + count * FILE_COST + self._own_bytes())

    def _own_bytes(self) -> int:
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def evict(self, to_bytes: int | None, used_before: float) -> tuple[list[bytes], list[bytes]]:
        """Drop entries, least recently used first, that were last used before a time, until what is left fits.

        `to_bytes` None drops all of them. At most AT_ONCE entries go, so call it until it gives none.
        Gives (recipes, contents of blobs that nothing needs any more).
        """
        gone: list[bytes] = []
        unneeded: list[bytes] = []
        with self._alone(), Transaction(self._db):
            total = self.total_bytes()
            own = self._own_bytes() / max(1, self.count())
            old = self._db.execute(
                "SELECT recipe FROM entries WHERE used < ? ORDER BY used LIMIT ?", (used_before, AT_ONCE)
            ).fetchall()
            for (recipe,) in old:
                if to_bytes is not None and total <= to_bytes:
                    break
                contents = self._db.execute(
                    "SELECT content, bytes FROM outputs WHERE recipe = ? AND data IS NULL AND bytes > 0", (recipe,)
                ).fetchall()
                self._delete([recipe])
                gone.append(recipe)
                total -= int(own)
                for content, size in dict(contents).items():
                    if self._is_unneeded(content):
                        unneeded.append(content)
                        total -= size + FILE_COST
        return gone, unneeded

    def oldest_blobs(self, used_before: float) -> list[tuple[bytes, int]]:
        """Contents that no entry has used since a time, and their bytes, least recently used first."""
        with self._alone():
            return self._db.execute(
                "SELECT o.content, max(o.bytes) FROM outputs o JOIN entries e USING (recipe) WHERE o.data IS NULL AND "
                "o.bytes > 0 GROUP BY o.content HAVING max(e.used) < ? ORDER BY max(e.used)",
                (used_before,),
            ).fetchall()

    def stats(self) -> list[TypeStats]:
        with self._alone():
            rows = self._db.execute(
                "SELECT type, count(*), sum(bytes), sum(hits), sum(hits * seconds) FROM entries GROUP BY type"
            ).fetchall()
        return [TypeStats(*row) for row in rows]

    def recipes(self) -> list[bytes]:
        with self._alone():
            return [recipe for (recipe,) in self._db.execute("SELECT recipe FROM entries")]

    def contents(self) -> list[bytes]:
        """The contents that lie in blobs."""
        with self._alone():
            return [content for (content,) in self._db.execute("SELECT content FROM blobs")]

    def origins(self, kind: str, limit: int = 200) -> list[tuple[Origin, float]]:
        """The origins of the newest entries of a node type, and when they were made."""
        with self._alone():
            found = self._db.execute(
                "SELECT origin, created FROM entries WHERE type = ? ORDER BY created DESC LIMIT ?", (kind, limit)
            ).fetchall()
        known = []
        for text, created in found:
            with contextlib.suppress(ValueError, TypeError):
                known.append((origin_from_json(kind, text), created))
        return known

    def count(self) -> int:
        with self._alone():
            return int(self._db.execute("SELECT count(*) FROM entries").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


def origin_of(row: EntryRow) -> Origin | None:
    try:
        return origin_from_json(row.type, row.origin)
    except (ValueError, TypeError):
        return None


def _row(found: tuple[Any, ...], outputs: list[tuple[Any, ...]]) -> EntryRow:
    *fields, seal = found
    recipe, key, kind, ui, rebuilt, seconds, created, origin, brought, effect = fields
    stored = tuple(Stored(content, size, data) for content, size, data in outputs)
    row = EntryRow(recipe, key, kind, ui, bool(rebuilt), seconds, created, origin, stored, brought, effect)
    if row.seal() != seal:
        raise sqlite3.DatabaseError("an entry is not as it was written")
    return row


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
