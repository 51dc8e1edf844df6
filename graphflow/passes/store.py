"""A file of costs of passes, and of what was decided for which work. The same work that is asked for again, after a
crash or a day, has the same passes: so what was finished is found in the cache."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from .costs import TABLE, PassCost, costs_of, note_cost

__all__ = ["PassStore"]

CHOICES = (
    "CREATE TABLE IF NOT EXISTS pass_choices ("
    " work TEXT PRIMARY KEY, passes INT NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS pass_choices_at ON pass_choices (at)",
)
MOST = 20_000
"""Choices that are kept."""
PATIENCE = 2.0
"""Seconds to wait for another process that writes."""


class PassStore:
    """Thread-safe; several processes may use one file. No trouble with it fails a run: what cannot be read is not
    known, and what cannot be written is measured again."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        """None: it lasts as long as this process. The file is made when it is first used."""
        self._path, self._clock = path, clock
        self._lock = Lock()
        self._opened: sqlite3.Connection | None = None

    def costs(self, likeness: str) -> dict[int, PassCost]:
        """What is known of runs that are alike, by the number of those that share passes."""
        with self._lock, suppress(sqlite3.Error, OSError):
            return costs_of(self._db(), likeness, self._clock())
        return {}

    def note(self, likeness: str, costs: dict[int, PassCost]) -> None:
        if not costs:
            return
        with self._lock, suppress(sqlite3.Error, OSError), self._db() as db:
            for passes, cost in costs.items():
                note_cost(db, likeness, passes, cost, self._clock())

    def choice(self, work: str) -> int | None:
        """The number that was decided for this work."""
        with self._lock, suppress(sqlite3.Error, OSError):
            found = self._db().execute("SELECT passes FROM pass_choices WHERE work = ?", (work,)).fetchone()
            return int(found[0]) if found is not None else None
        return None

    def choose(self, work: str, passes: int) -> None:
        with self._lock, suppress(sqlite3.Error, OSError), self._db() as db:
            db.execute("INSERT OR REPLACE INTO pass_choices VALUES (?, ?, ?)", (work, passes, self._clock()))
            db.execute(
                "DELETE FROM pass_choices WHERE at < (SELECT at FROM pass_choices ORDER BY at DESC LIMIT 1 OFFSET ?)",
                (MOST,),
            )

    def close(self) -> None:
        """Let go of the file; it is opened again when it is used. What lies in memory alone stays."""
        with self._lock:
            if self._opened is not None and self._path is not None:
                self._opened.close()
                self._opened = None

    def _db(self) -> sqlite3.Connection:
        """Called with the lock held."""
        if self._opened is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            name = str(self._path) if self._path is not None else ":memory:"
            opened = sqlite3.connect(name, timeout=PATIENCE, check_same_thread=False)
            try:
                opened.execute("PRAGMA synchronous = OFF")  # a measurement that is lost is made again
                for statement in (*TABLE, *CHOICES):
                    opened.execute(statement)
            except BaseException:
                opened.close()
                raise
            self._opened = opened
        return self._opened
