"""A cache folder: its files, and an index that is there and undamaged.

    FOLDER/v5/index.sqlite     recipe -> contents (small outputs lie in it)
    FOLDER/v5/blobs/           outputs, named by their digest
    FOLDER/v5/records/         a copy of each row that was worth a blob, so that the index can be lost
    FOLDER/v5/checkpoints/     states of nodes that were stopped half-way, by recipe
    FOLDER/v5/leases/          who computes what just now

Nothing that goes wrong here stops a run: it warns once, and the run goes on without the folder.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..problem import Problem
from . import record
from .blobs import Damaged, Files
from .database import LAYOUT
from .index import Index
from .leases import Leases

__all__ = ["Folder", "own_folder"]

T = TypeVar("T")
RETRY = 60.0
"""Seconds for which a folder that made trouble is left alone."""


def own_folder(folder: Path) -> Path:
    """Where this version of the program stores, in a cache folder."""
    return folder / f"v{LAYOUT}"


class Folder:
    """The files, the index and the leases of one cache folder. `warn` is called once for each kind of trouble."""

    def __init__(self, folder: Path, warn: Callable[[Problem], None] = lambda _: None) -> None:
        self.path = own_folder(folder)
        self._report = warn
        self._warned: set[str] = set()
        self.blobs = Files(self.path / "blobs")
        self.records = Files(self.path / "records", sealed=True)
        self.checkpoints = Files(self.path / "checkpoints", sealed=True)
        self._broken_until = 0.0
        self.index: Index | None = None
        self.leases: Leases | None = None
        self.writable = False
        self._is_closed = False
        self._open()

    @property
    def can_keep(self) -> bool:
        """Whether what is put now is kept."""
        return self.writable and self.index is not None and not self.is_broken

    @property
    def is_broken(self) -> bool:
        return time.monotonic() < self._broken_until

    def _open(self) -> None:
        path = self.path / "index.sqlite"
        try:
            for name in ("blobs", "records", "checkpoints", "leases"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            self.writable = all(os.access(part, os.W_OK) for part in (self.path, self.blobs.folder))
        except OSError as error:
            if not os.access(path, os.R_OK):
                self.warn(
                    "cache_off",
                    f"nothing is kept: {self.path} cannot be used ({_reason(self.path, error)})",
                    "name another folder with --cache-dir",
                )
                return
        if not self.writable:
            self.warn(
                "cache_read_only",
                f"{self.path} cannot be written: what is in it is used, nothing new is kept",
                "name another folder with --cache-dir",
            )
        try:
            self.index = Index(path, read_only=not self.writable)
            if self.writable:
                self.leases = self.leases or Leases(self.path / "leases")
                if not self.index.count():
                    self._rebuild()
        except sqlite3.Error as error:
            if self.writable or path.exists():
                self.failed(error)

    def failed(self, error: sqlite3.Error) -> None:
        """The database is busy, or the disk full: leave it alone for a while. Or it is damaged: make it again."""
        if isinstance(error, sqlite3.OperationalError) or not isinstance(error, sqlite3.DatabaseError):
            self.trouble("cache_index", f"the index of the cache cannot be used: {error}")
        elif not self.writable:
            self.index = None
            self.trouble("cache_index", f"the index of the cache is damaged: {error}")
        else:
            self._replace_index(error)

    def _replace_index(self, error: sqlite3.Error) -> None:
        """Put the damaged index aside and make it again from the records. Of several processes, one does it."""
        self.warn("cache_index", f"the index of the cache was damaged ({error}) and is made again from its records")
        damaged, self.index = self.index, None
        if damaged is not None:
            with contextlib.suppress(sqlite3.Error):
                damaged.close()
        try:
            self.leases = self.leases or Leases(self.path / "leases")
            lease = self.leases.take("index")
            if lease is None:
                self.trouble("cache_index", "another process makes it")
                return
            try:
                for ending in ("", "-wal", "-shm"):
                    path = self.path / f"index.sqlite{ending}"
                    with contextlib.suppress(FileNotFoundError):
                        path.rename(path.with_name(f"{path.name}.damaged"))
                self.index = Index(self.path / "index.sqlite")
                self._rebuild()
            finally:
                self.leases.give_back(lease)
        except (sqlite3.Error, OSError) as again:
            self.trouble("cache_index", f"the index of the cache cannot be made: {again}")

    def _rebuild(self) -> None:
        assert self.index is not None
        rows = []
        for name in self.records.names():
            try:
                data = self.records.read(name)
                row = record.read(data) if data is not None else None
                if row is not None and all(self.blobs.exists(content) for content in row.blobs()):
                    rows.append(row)
            except (Damaged, ValueError, KeyError):
                self.records.remove(name)
            except OSError:
                continue
        if rows:
            self.index.put(rows)

    # -- asking the index ---------------------------------------------------------------------------------------------

    def asked(self, ask: Callable[[Index], T]) -> T | None:
        """The answer of the index, or, if it is damaged, of the one that is made in its place."""
        for _ in range(2):
            if self.index is not None:
                try:
                    return ask(self.index)
                except sqlite3.Error as error:
                    self.failed(error)
        return None

    def forget_content(self, content: bytes) -> None:
        self.blobs.remove(content)
        if self.index is None or not self.writable:
            return
        try:
            for recipe in self.index.forget_content(content):
                self.records.remove(recipe)
        except sqlite3.Error as error:
            self.failed(error)

    # -- the end ------------------------------------------------------------------------------------------------------

    def clear(self) -> bool:
        """Remove everything that this layout has stored in the folder; whether it could be done. Who else uses the
        folder goes on with an empty one."""
        if not self.writable or self.index is None:
            return False
        try:
            self.index.clear()
        except sqlite3.Error as error:
            self.failed(error)
            return False
        for files in (self.records, self.blobs, self.checkpoints):
            for name in files.names():
                files.remove(name)
        return True

    def open(self) -> None:
        """Again, if it was closed, or if somebody has removed the index in the meantime."""
        if self._is_closed or (self.writable and self.index is not None and self.index.is_removed):
            self._is_closed = False
            self._open()

    def close(self) -> None:
        self._is_closed = True
        if self.leases is not None:
            self.leases.close()
            self.leases = None
        if self.index is not None:
            self.index.close()
            self.index = None

    def trouble(self, code: str, message: str, hint: str = "the run goes on; what it computes is not kept") -> None:
        self._broken_until = time.monotonic() + RETRY
        self.warn(code, message, hint)

    def warn(self, code: str, message: str, hint: str | None = None) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._report(Problem(code, message, hint=hint))


def _reason(path: Path, error: OSError) -> str:
    """Why a folder cannot be made; a link that leads nowhere, or a file in its place, is named."""
    for part in (path, *path.parents):
        if os.path.islink(part) and not os.path.exists(part):
            return f"{part} is a link to {os.readlink(part)}, and there is nothing there"
        if os.path.isfile(part):
            return f"{part} is a file"
    return error.strerror or str(error)
