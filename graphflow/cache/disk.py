"""A cache folder that many processes share, as a store: it reads entries, and writes batches of changes."""

from __future__ import annotations

import errno
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import time

from ..problem import Problem
from ..values import decode
from . import care, record
from .blobs import Damaged, digest_of
from .care import Verified
from .entry import CacheEntry, Origin, origin_to_json
from .folder import Folder
from .index import FILE_COST, Index, TypeStats, origin_of
from .leases import Lease
from .rows import EntryRow, Replaced, Stored
from .store import WORTH_A_RECORD, Alias, Batch, Change, Kept, Put, Replace, Written, entry_of, json_of, row_of

__all__ = ["DiskTier", "Verified"]

SLACK = 0.1
"""Part of the budget that may be written before it is looked at again, while a run goes on."""
SHRINKS = 3
"""How often room is made on a full disk for one batch of results."""


class DiskTier(Folder):
    """One cache folder. `warn` is called once for each kind of trouble."""

    def __init__(
        self, folder: Path, budget: int | None = None, warn: Callable[[Problem], None] = lambda _: None
    ) -> None:
        super().__init__(folder, warn)
        self.budget = budget
        self._grown = 0
        """Bytes written since the budget was looked at."""

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, recipe: bytes) -> Kept | None:
        return self._read(lambda index: index.get(recipe))

    def find(self, key: bytes) -> Kept | None:
        return self._read(lambda index: index.find(key))

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> CacheEntry | None:
        row = self._row(lambda index: index.get(recipe) if recipe is not None else index.find(key or b""))
        if row is None or not all(self.blobs.exists(name) for name in row.blobs()):
            return None
        return entry_of(row, None)

    def fetch(self, recipes: Sequence[bytes]) -> None:
        """It is near enough."""

    def origins(self, kind: str) -> list[tuple[Origin, float]]:
        return self.asked(lambda index: index.origins(kind)) or []

    def _row(self, ask: Callable[[Index], EntryRow | None]) -> EntryRow | None:
        if self.index is None or self.is_broken:
            return None
        try:
            return ask(self.index)
        except sqlite3.Error as error:
            self.failed(error)
            return None

    def _read(self, ask: Callable[[Index], EntryRow | None]) -> Kept | None:
        row = self._row(ask)
        if row is None:
            return None
        try:
            outputs = None if row.rebuilt else tuple(self._value(item) for item in row.outputs)
        except _Gone:
            return None
        return Kept(entry_of(row, outputs), row.recipe, row.key, origin_of(row))

    def _value(self, item: Stored) -> object:
        try:
            data = item.data if item.data is not None else self.blobs.read(item.content)
            if data is not None:
                if item.data is not None and digest_of(data) != item.content:
                    raise Damaged(item.content.hex())
                return decode(data)
        except (Damaged, ValueError, KeyError):
            self.warn(
                "cache_damaged",
                f"a stored result was damaged; it is computed again and replaced: {self.blobs.path(item.content)}",
            )
        except Exception as error:  # no rights, too many open files, no memory, no codec: the file may be good
            self.warn("cache_unreadable", f"a stored result cannot be read and is computed again: {error}")
            raise _Gone() from error
        self.forget_content(item.content)
        raise _Gone()

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> Written:
        """Everything is on the disk when it returns, or nothing was kept and the reason is reported."""
        if not self.can_keep:
            return Written(kept=False)
        written, error = self._tried(batch)
        given_up: list[bytes] = []
        for _ in range(SHRINKS):
            if error is not None and _is_full(error):
                given_up += care.make_room(self)
                written, error = self._tried(batch)
        if error is None:
            for content in given_up:  # not before: without room the index cannot even forget
                self.forget_content(content)
        if isinstance(error, OSError):
            self.trouble("cache_full", f"results are not kept any more: {error.strerror or error} ({self.path})")
        elif isinstance(error, sqlite3.OperationalError):
            self.trouble("cache_full", f"results are not kept any more: {error} ({self.path})")
        elif isinstance(error, sqlite3.Error):
            self.failed(error)
        elif error is not None:
            self.trouble("cache_failed", f"results are not kept any more: {type(error).__name__}: {error}")
        return written._replace(kept=error is None and not self.is_broken)

    def _tried(self, batch: Batch) -> tuple[Written, Exception | None]:
        try:
            return self._write_batch(batch), None
        except Exception as error:  # a thread that dies of one would leave every later run waiting
            return Written(kept=False), error

    def _write_batch(self, batch: Batch) -> Written:
        written = Written()
        changes: list[EntryRow | Replaced] = []
        try:
            for change in batch.changes:
                if not self.is_broken:
                    row = self._row_of(change, changes)
                    if row is not None:
                        changes.append(row)
        finally:
            if self.index is not None and not self.is_broken and (changes or batch.used):
                done = self.index.put(changes, [(at, recipe) for recipe, at in batch.used.items()])
                for content in done.unneeded:
                    self.blobs.remove(content)
                for recipe in done.gone:
                    self.records.remove(recipe)
                written = Written(True, frozenset(done.gone), tuple(done.lost))
        self._grown += sum(_size(change) for change in changes)
        if self.budget is not None and self._grown > self.budget * SLACK:
            self._keep_to(self.budget, sweeps=False)
        return written

    def _row_of(self, change: Change, before: list[EntryRow | Replaced]) -> EntryRow | Replaced | None:
        """The change as the index takes it; files are written."""
        if isinstance(change, Put):
            return self._write_files(change)
        if isinstance(change, Alias):
            return self._same_again(change, before)
        return _replaced(change)

    def _same_again(self, alias: Alias, before: list[EntryRow | Replaced]) -> EntryRow | None:
        """The row of the key under one more recipe. It needs no record: where the index is lost, the key finds it."""
        self.checkpoints.remove(alias.recipe)
        rows = (change for change in reversed(before) if isinstance(change, EntryRow) and change.key == alias.key)
        row = next(rows, None) or (self.index.find(alias.key) if self.index is not None else None)
        if row is None or row.recipe == alias.recipe:
            return None
        return replace(row, recipe=alias.recipe, origin=origin_to_json(alias.origin))

    def _write_files(self, put: Put) -> EntryRow:
        row = row_of(put)
        blobs = set(row.blobs())
        for item in put.encoded or ():
            if item.content in blobs and item.data is not None:
                self.blobs.write(item.content, item.data)
        if blobs or row.seconds >= WORTH_A_RECORD:
            self.records.write(row.recipe, record.write(row))
        return row

    # -- runs and leases --------------------------------------------------------------------------------------------

    def lease(self, recipe: bytes) -> Lease | None:
        """The right to compute a recipe; None while another process has it. Raises OSError."""
        if self.leases is None:
            raise OSError("no leases here")
        return self.leases.take(recipe.hex())

    def give_back(self, lease: Lease) -> None:
        if self.leases is not None:
            self.leases.give_back(lease)

    def begin_run(self) -> Lease | None:
        """A sign to all processes that a run goes on, with the time at which it began."""
        try:
            return self.leases.take(f"run-{uuid.uuid4().hex}-{time()}") if self.leases is not None else None
        except OSError:
            return None

    def end_run(self, lease: Lease | None) -> None:
        """The folder is within its budget when it returns."""
        if lease is not None:
            self.give_back(lease)
        if self.budget is not None and self._grown:
            self._keep_to(self.budget, sweeps=True)

    # -- care -------------------------------------------------------------------------------------------------------

    def evict(self, to_bytes: int | None, used_before: float | None = None) -> int:
        """Drop what was used least recently; never what a run that goes on has used. How many entries."""
        return care.evict(self, to_bytes, used_before)

    def _keep_to(self, budget: int, sweeps: bool) -> None:
        self._grown = 0
        if self.total_bytes() > budget:
            care.evict(self, int(budget * 0.9), sweeps=sweeps)

    def verify(self) -> Verified:
        """Read everything; remove what is damaged and what dead processes have left."""
        return care.verify(self)

    def stats(self) -> list[TypeStats]:
        """By node type."""
        return self.asked(Index.stats) or []

    def total_bytes(self) -> int:
        """The bytes of the whole folder, about."""
        return self.asked(Index.total_bytes) or 0


class _Gone(Exception):
    """A blob that an entry needs is not there any more, or not as it was written."""


def _replaced(change: Replace) -> Replaced:
    try:
        contents = change.entry.contents if change.entry is not None else None
        ui = json_of(change.entry.ui) if change.entry is not None else None
    except (TypeError, ValueError, RecursionError):
        contents, ui = None, None
    return Replaced(change.recipe, change.key, contents, ui, change.stale)


def _size(change: EntryRow | Replaced) -> int:
    """The bytes that it takes on the disk, about."""
    return sum(item.size for item in change.outputs) + FILE_COST if isinstance(change, EntryRow) else 0


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
