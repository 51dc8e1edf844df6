"""Digests of files, each file read once: remembered by path, size, time and inode, in a small database across processes.

A time stamp may be too coarse to show a second write: a file that was written within the last two seconds is read again
the next time (the "racy" case that version control systems know).
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Lock

__all__ = ["Digests"]

RACY_NS = 2_000_000_000


class Digests:
    """sha256 of files and folders. `database` keeps them for the next process; without one they last as long as this."""

    def __init__(self, database: Path | None = None) -> None:
        self._database = database
        self._known: dict[str, tuple[int, int, int, str]] | None = None
        self._lock = Lock()

    def of(self, path: Path) -> str:
        """Hex sha256 of a file, or of the names and digests of all files in a folder. Raises OSError."""
        if path.is_dir():
            parts = [(p.relative_to(path).as_posix(), self.of(p)) for p in sorted(path.rglob("*")) if p.is_file()]
            return hashlib.sha256(repr(parts).encode()).hexdigest()
        name = os.path.realpath(path)
        with self._lock:
            if self._known is None:
                self._known = self._read()
            known = self._known.get(name)
        state = os.stat(name)
        if known is not None and known[:3] == (state.st_size, state.st_mtime_ns, state.st_ino):
            return known[3]
        with open(name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        same = (after.st_size, after.st_mtime_ns) == (state.st_size, state.st_mtime_ns)
        if same and time.time_ns() - state.st_mtime_ns > RACY_NS:
            self._remember(name, (state.st_size, state.st_mtime_ns, state.st_ino, digest))
        return digest

    def _read(self) -> dict[str, tuple[int, int, int, str]]:
        if self._database is None or not self._database.exists():
            return {}
        try:
            with closing(sqlite3.connect(self._database, timeout=2)) as db:
                rows = db.execute("SELECT path, size, mtime, inode, sha256 FROM files").fetchall()
        except sqlite3.Error:
            return {}
        return {path: (size, mtime, inode, digest) for path, size, mtime, inode, digest in rows}

    def _remember(self, name: str, row: tuple[int, int, int, str]) -> None:
        with self._lock:
            assert self._known is not None
            self._known[name] = row
        if self._database is None or row[0] < 1 << 20:
            return  # a small file is read faster than its row is written
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._database, timeout=2)) as db, db:
                db.execute("CREATE TABLE IF NOT EXISTS files (path PRIMARY KEY, size, mtime, inode, sha256)")
                db.execute("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)", (name, *row))
        except (sqlite3.Error, OSError):
            pass  # the digest is right all the same; it is only not remembered
