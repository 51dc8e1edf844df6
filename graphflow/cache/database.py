"""One SQLite database in WAL mode that many processes share: its tables, how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LAYOUT", "Transaction", "open_to_read", "open_to_write", "classified"]

LAYOUT = 5
"""Of the database and the files beside it. Another layout lies in another folder."""
WAIT = 5.0
"""Seconds to wait for another process that is writing."""
_MAY_PASS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_PROTOCOL,
}

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entries (
    recipe BLOB PRIMARY KEY, key BLOB, type TEXT, ui TEXT, rebuilt INT, seconds REAL, created REAL, origin TEXT,
    brought TEXT, effect TEXT, seal BLOB, bytes INT, used REAL, hits INT DEFAULT 0);
CREATE INDEX IF NOT EXISTS entries_by_key ON entries (key);
CREATE INDEX IF NOT EXISTS entries_by_type ON entries (type, created);
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (used);
CREATE TABLE IF NOT EXISTS outputs (
    recipe BLOB, slot INT, content BLOB, bytes INT, data BLOB, PRIMARY KEY (recipe, slot)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outputs_by_content ON outputs (content);
CREATE TABLE IF NOT EXISTS blobs (content BLOB PRIMARY KEY, bytes INT) WITHOUT ROWID;
PRAGMA user_version = {LAYOUT};
"""


class Transaction:
    """BEGIN IMMEDIATE, so that two processes never wait for each other in the middle."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:  # some errors, a full disk for one, have already rolled it back
            self._db.execute("ROLLBACK")


@contextlib.contextmanager
def classified() -> Iterator[None]:
    """Two kinds of error: what may pass, and damage, which also shows as values of a wrong type."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _MAY_PASS:
            raise
        raise sqlite3.DatabaseError(str(error)) from error
    except sqlite3.ProgrammingError as error:  # closed by another thread
        raise sqlite3.OperationalError(str(error)) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise sqlite3.DatabaseError(f"it holds something else than was written: {error}") from error


def open_to_write(path: Path) -> sqlite3.Connection:
    """Of several that make the database at the same moment SQLite turns some away at once, without waiting."""
    end = time.monotonic() + WAIT
    while True:
        try:
            return _made(path)
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _made(path: Path) -> sqlite3.Connection:
    db = _connect(path, "mode=rwc")
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript(_SCHEMA)
        _check_layout(db)
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Where the files beside the database cannot be made, either, it is read as it lies."""
    for mode in ("mode=ro", "immutable=1"):
        db = _connect(path, mode)
        try:
            _check_layout(db)
            return db
        except sqlite3.OperationalError:
            db.close()
    raise sqlite3.OperationalError(f"{path} cannot be read")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(address, uri=True, timeout=WAIT, check_same_thread=False, isolation_level=None)


def _check_layout(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
        raise sqlite3.DatabaseError("it has another layout")
    for table in ("entries", "outputs", "blobs"):
        db.execute(f"SELECT 1 FROM {table} LIMIT 0")
