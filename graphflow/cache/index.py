"""The index of the disk tier: one SQLite database in WAL mode that many processes share.

It can be lost: what is worth keeping can be read again from the record files beside the blobs.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from .entry import Origin

__all__ = ["Index", "Row", "Stored", "TypeStats"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    recipe BLOB PRIMARY KEY, key BLOB, type TEXT, ui TEXT, rebuilt INT, seconds REAL, created REAL, used REAL,
    hits INT DEFAULT 0, origin TEXT);
CREATE INDEX IF NOT EXISTS entries_by_key ON entries (key);
CREATE INDEX IF NOT EXISTS entries_by_type ON entries (type, created);
CREATE TABLE IF NOT EXISTS outputs (
    recipe BLOB, slot INT, content BLOB, bytes INT, data BLOB, PRIMARY KEY (recipe, slot)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outputs_by_content ON outputs (content);
CREATE TABLE IF NOT EXISTS blobs (content BLOB PRIMARY KEY, bytes INT) WITHOUT ROWID;
"""
_COLUMNS = "recipe, key, type, ui, rebuilt, seconds, created, used, hits, origin"


@dataclass(frozen=True, slots=True)
class Stored:
    """One output: small ones lie in the index itself (`data`), large ones in a blob named by their content."""

    content: bytes
    size: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Row:
    recipe: bytes
    key: bytes | None
    type: str
    ui: str | None
    """JSON."""
    rebuilt: bool
    """The outputs are handles: not stored, made again by running the node."""
    seconds: float
    created: float
    origin: str
    """JSON of an Origin, see `origin_to_json`."""
    outputs: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class TypeStats:
    type: str
    entries: int
    bytes: int
    hits: int
    saved: float
    """Seconds that the hits would have taken to compute."""


class Index:
    """Thread-safe; every method may raise sqlite3.Error."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._lock = RLock()
        address = f"{path.absolute().as_uri()}?{'immutable=1' if read_only else 'mode=rwc'}"
        self._db = sqlite3.connect(address, uri=True, timeout=10, check_same_thread=False, isolation_level=None)
        if not read_only:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    def get(self, recipe: bytes) -> Row | None:
        return self._one("recipe", recipe)

    def find(self, key: bytes) -> Row | None:
        return self._one("key", key)

    def _one(self, column: str, value: bytes) -> Row | None:
        with self._lock:
            found = self._db.execute(f"SELECT {_COLUMNS} FROM entries WHERE {column} = ? LIMIT 1", (value,)).fetchone()
            if found is None:
                return None
            outputs = self._db.execute(
                "SELECT content, bytes, data FROM outputs WHERE recipe = ? ORDER BY slot", (found[0],)
            ).fetchall()
        return _row(found, outputs)

    def put(self, rows: Iterable[Row], used: Iterable[tuple[float, bytes]] = ()) -> None:
        """Write rows, and count hits, in one transaction."""
        with self._lock, _Transaction(self._db):
            for row in rows:
                self._db.execute("DELETE FROM outputs WHERE recipe = ?", (row.recipe,))
                self._db.execute(
                    f"INSERT OR REPLACE INTO entries ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,0,?)",
                    (
                        row.recipe,
                        row.key,
                        row.type,
                        row.ui,
                        row.rebuilt,
                        row.seconds,
                        row.created,
                        row.created,
                        row.origin,
                    ),
                )
                for slot, item in enumerate(row.outputs):
                    self._db.execute(
                        "INSERT INTO outputs VALUES (?,?,?,?,?)",
                        (row.recipe, slot, item.content, item.size, item.data),
                    )
                    if item.data is None and item.size:
                        self._db.execute("INSERT OR IGNORE INTO blobs VALUES (?,?)", (item.content, item.size))
            self._db.executemany("UPDATE entries SET used = ?, hits = hits + 1 WHERE recipe = ?", used)

    def forget_content(self, content: bytes) -> list[bytes]:
        """Drop a damaged blob and all entries that need it; their recipes."""
        with self._lock, _Transaction(self._db):
            gone = [row[0] for row in self._db.execute("SELECT recipe FROM outputs WHERE content = ?", (content,))]
            self._delete(gone)
            self._db.execute("DELETE FROM blobs WHERE content = ?", (content,))
        return gone

    def _delete(self, recipes: list[bytes]) -> None:
        self._db.executemany("DELETE FROM outputs WHERE recipe = ?", [(recipe,) for recipe in recipes])
        self._db.executemany("DELETE FROM entries WHERE recipe = ?", [(recipe,) for recipe in recipes])

    def total_bytes(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT coalesce(sum(bytes), 0) FROM blobs").fetchone()[0])

    def evict(self, to_bytes: int | None, used_before: float) -> tuple[list[bytes], list[bytes]]:
        """Drop entries, least recently used first, that were last used before a time, until the blobs left fit.

        `to_bytes` None drops all of them. Gives (recipes, contents of blobs that nothing needs any more).
        """
        gone: list[bytes] = []
        loose: list[bytes] = []
        with self._lock, _Transaction(self._db):
            total = self.total_bytes()
            old = self._db.execute("SELECT recipe FROM entries WHERE used < ? ORDER BY used", (used_before,)).fetchall()
            for at in range(0, len(old), 100):
                if to_bytes is not None and total <= to_bytes:
                    break
                chunk = [row[0] for row in old[at : at + 100]]
                for recipe in chunk:
                    if to_bytes is not None and total <= to_bytes:
                        break
                    contents = self._db.execute(
                        "SELECT content, bytes FROM outputs WHERE recipe = ? AND data IS NULL AND bytes > 0", (recipe,)
                    ).fetchall()
                    self._delete([recipe])
                    gone.append(recipe)
                    for content, size in dict(contents).items():
                        needed = self._db.execute(
                            "SELECT 1 FROM outputs WHERE content = ? LIMIT 1", (content,)
                        ).fetchone()
                        if needed is None:
                            self._db.execute("DELETE FROM blobs WHERE content = ?", (content,))
                            loose.append(content)
                            total -= size
        return gone, loose

    def stats(self) -> list[TypeStats]:
        with self._lock:
            rows = self._db.execute(
                "SELECT type, count(*), sum(hits), sum(hits * seconds) FROM entries GROUP BY type"
            ).fetchall()
            sizes = dict(self._db.execute(
                "SELECT e.type, sum(o.bytes) FROM outputs o JOIN entries e USING (recipe) GROUP BY e.type"
            ).fetchall())  # fmt: skip
        return [TypeStats(kind, count, sizes.get(kind) or 0, hits, saved) for kind, count, hits, saved in rows]

    def contents(self) -> Iterator[tuple[bytes, int]]:
        with self._lock:
            yield from self._db.execute("SELECT content, bytes FROM blobs").fetchall()

    def origins(self, kind: str, limit: int = 200) -> list[tuple[Origin, float]]:
        """What the newest entries of a node type were made from, and when."""
        with self._lock:
            found = self._db.execute(
                "SELECT origin, created FROM entries WHERE type = ? ORDER BY created DESC LIMIT ?", (kind, limit)
            ).fetchall()
        return [(origin_from_json(kind, text), created) for text, created in found]

    def count(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM entries").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


class _Transaction:
    """BEGIN IMMEDIATE, so that two processes never wait for each other in the middle."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _row(found: tuple[Any, ...], outputs: list[tuple[Any, ...]]) -> Row:
    recipe, key, kind, ui, rebuilt, seconds, created, _, _, origin = found
    stored = tuple(Stored(content, size, data) for content, size, data in outputs)
    return Row(recipe, key, kind, ui, bool(rebuilt), seconds, created, origin, stored)


LONGEST_LITERAL = 2000


def origin_to_json(origin: Origin) -> str:
    """Compact JSON; a literal that is long, or no JSON, is left out: it explains nothing that fits a line."""
    literals = {}
    for name, value in origin.literals.items():
        try:
            if len(json.dumps(value)) <= LONGEST_LITERAL:
                literals[name] = value
        except (TypeError, ValueError, RecursionError):
            continue
    links = {name: [recipe.hex(), slot] for name, (recipe, slot) in origin.links.items()}
    return json.dumps(
        [origin.version, literals, links, origin.outside, origin.environment, origin.node], separators=(",", ":")
    )


def origin_from_json(kind: str, text: str) -> Origin:
    version, literals, links, outside, environment, node = json.loads(text)
    known = {name: (bytes.fromhex(recipe), slot) for name, (recipe, slot) in links.items()}
    return Origin(kind, version, literals, known, outside, environment, node)


def now() -> float:
    return time.time()
