"""Digests of files, each file read once: remembered by path, size, times and inode, in a small database across
processes.

The time of the last write can be set by anybody; that of the last change of state (ctime) cannot, so both count. Either
may be too coarse to show a second write: a file that changed within the last two seconds is read again the next time
(the "racy" case that version control systems know).
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

__all__ = ["Digests", "Watch", "Watched", "walk_once"]

RACY_NS = 2_000_000_000
WORTH_A_ROW = 1 << 20
"""Bytes from which a digest is kept for the next process: a smaller file is read faster than its row is written."""
MANY = 256
"""Smaller files whose rows are written together: so many are read more slowly."""
_SCHEMA = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size, mtime, ctime, inode, sha256)"
"""A path is bytes: not every name of a file is text."""

CHUNK = 1 << 20

Watch = Callable[[Path, int, int], None]
"""`watch(file, bytes read, its bytes)`"""
State = tuple[int, int, int, int]
"""Size, mtime and ctime in nanoseconds, inode."""


class Digests:
    """sha256 of files and folders. `database` keeps them for the next process; without one they last as long as
    this."""

    def __init__(self, database: Path | None = None) -> None:
        self._database = database
        self._known: dict[str, tuple[State, str]] | None = None
        self._few: dict[str, tuple[State, str]] = {}
        """Small files whose rows are not written yet."""
        self._lock = Lock()

    def __reduce__(self) -> tuple[object, ...]:
        """Another process knows what the database holds."""
        return Digests, (self._database,)

    def of(self, path: Path, watch: Watch | None = None) -> str:
        """Hex sha256 of a file, or of the names and digests of all files in a folder. Raises OSError.

        `watch` is called while a file is read, and may raise to end it.
        """
        if path.is_dir():
            return self._of_folder(path, watch)
        name = os.path.realpath(path)
        with self._lock:
            if self._known is None:
                self._known = self._read()
            known = self._known.get(name)
        state = _state(os.stat(name))
        if known is not None and known[0] == state:
            return known[1]
        with open(name, "rb") as file:
            _write_back(file)
            digest = _sha256(file, path, state[0], watch)
            after = _state(os.fstat(file.fileno()))
        if after == state and time.time_ns() - state[2] > RACY_NS:
            self._remember(name, state, digest)
        return digest

    def _of_folder(self, root: Path, watch: Watch | None) -> str:
        """Links are followed; a folder that was entered before, by whatever name, stands for what it was called
        then."""
        entered: dict[str, str] = {}
        parts: list[tuple[str, str]] = []
        for name, folders, files in os.walk(root, followlinks=True):
            folder = os.path.relpath(name, root)
            first = entered.setdefault(os.path.realpath(name), folder)
            if first != folder:
                folders.clear()
                parts.append((folder, f"as {first}"))
                continue
            folders.sort()
            paths = [Path(name, file) for file in sorted(files)]
            parts += [(path.relative_to(root).as_posix(), self.of(path, watch)) for path in paths if path.is_file()]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _read(self) -> dict[str, tuple[State, str]]:
        if self._database is None or not self._database.exists():
            return {}
        import sqlite3  # only where a database is used: most settings have none

        try:
            with closing(sqlite3.connect(self._database, timeout=2)) as db:
                rows = db.execute("SELECT path, size, mtime, ctime, inode, sha256 FROM files").fetchall()
        except sqlite3.Error:
            return {}
        return {
            os.fsdecode(path): ((size, mtime, ctime, inode), digest) for path, size, mtime, ctime, inode, digest in rows
        }

    def _remember(self, name: str, state: State, digest: str) -> None:
        with self._lock:
            assert self._known is not None
            self._known[name] = state, digest
            if self._database is None:
                return
            self._few[name] = state, digest
            if state[0] < WORTH_A_ROW and len(self._few) < MANY:
                return
            rows, self._few = self._few, {}
        import sqlite3

        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._database, timeout=2)) as db, db:
                db.execute(_SCHEMA)
                values = [(os.fsencode(name), *state, digest) for name, (state, digest) in rows.items()]
                db.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?)", values)
        except (sqlite3.Error, OSError):
            pass  # the digest is right all the same; it is only not remembered


class Watched(Digests):
    """Other digests, with a watch on what they read."""

    def __init__(self, digests: Digests, watch: Watch) -> None:
        self._digests, self._watch = digests, watch

    def __reduce__(self) -> tuple[object, ...]:
        """Nobody watches in another process."""
        return self._digests.__reduce__()

    def of(self, path: Path, watch: Watch | None = None) -> str:
        return self._digests.of(path, watch or self._watch)


def walk_once(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`. Links to folders are followed, but each folder is entered once, so that a circle ends."""
    entered: set[str] = set()
    for name, folders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(name)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        yield name, folders, files


def _sha256(file: BinaryIO, path: Path, size: int, watch: Watch | None) -> str:
    hasher, done = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        hasher.update(chunk)
        done += len(chunk)
        if watch is not None:
            watch(path, done, size)
    return hasher.hexdigest()


def _write_back(file: BinaryIO) -> None:
    """A write through a memory map changes the times of a file only when it is the first one into a page since that
    page was written to the disk: so all pages go to the disk, and every later write shows."""
    with suppress(OSError):  # a file system that only reads
        pages_of = _sync_file_range()
        if pages_of is None or pages_of(file.fileno(), 0, 0, _WAIT_WRITE_WAIT) != 0:
            os.fsync(file.fileno())


_WAIT_WRITE_WAIT = 7


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Linux's call that writes the dirty pages of a file and waits for them. `fsync` makes the disk write its own cache
    as well, which takes minutes for a folder of ten thousand images. None on other systems."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        found = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    found.restype = ctypes.c_int
    return cast(Callable[[int, int, int, int], int], found)


def _state(found: os.stat_result) -> State:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
