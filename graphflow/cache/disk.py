"""The disk tier: reads and writes the results in a cache folder that many processes share."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from ..problem import Problem
from ..values import Encoded, Unstorable, decode, encode
from . import care, record
from .blobs import Damaged, digest_of
from .care import Verified
from .entry import Brought, Entry, Origin, origin_to_json
from .folder import Folder
from .index import FILE_COST, Index, TypeStats
from .leases import Lease
from .remote import Remote
from .rows import Replaced, Row, Stored
from .writer import Again, Job, Store, Writer

__all__ = ["DiskTier", "Verified"]

INLINE = 4096
"""Bytes up to which an output lies in the index."""
WORTH_A_RECORD = 0.05
"""Seconds of computing from which a small entry is kept in a record file, too."""
SLACK = 0.1
"""Part of the budget that may be written before it is looked at again, while a run goes on."""
SHRINKS = 3
"""How often room is made on a full disk for one batch of results."""


class DiskTier(Folder):
    """One cache folder. `warn` is told once of each kind of trouble; `gone` what a refreshed run has made wrong; `lost`
    what is used, but not here any more."""

    def __init__(
        self, folder: Path, budget: int | None = None, warn: Callable[[Problem], None] = lambda _: None,
        remote: Remote | None = None, gone: Callable[[set[bytes]], None] = lambda _: None,
        lost: Callable[[list[bytes]], None] = lambda _: None,
    ) -> None:  # fmt: skip
        super().__init__(folder, warn)
        self.budget = budget
        self._remote = remote
        self._gone, self._lost = gone, lost
        self._used: dict[bytes, float] = {}
        self._lock = Lock()
        self._writer = Writer(self._write, self._written)
        self._grown = 0
        """Bytes written since the budget was looked at."""
        self._pending: set[bytes] = set()
        """Recipes that wait to be written."""

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, recipe: bytes) -> tuple[Entry, Row] | None:
        return self._read(lambda index: index.get(recipe))

    def find(self, key: bytes) -> Entry | None:
        found = self._read(lambda index: index.find(key))
        if found is None and self._fetch_key(key):
            found = self._read(lambda index: index.find(key))
        return found[0] if found is not None else None

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> Entry | None:
        """All of an entry but its outputs, by recipe or by key; it does not count as use."""
        row = self._row(lambda index: index.get(recipe) if recipe is not None else index.find(key or b""))
        if row is None or not all(self._remote is not None or self.blobs.exists(name) for name in row.blobs()):
            return None
        return _entry(row, None)

    def touch(self, recipe: bytes) -> None:
        """An entry was used; it is noted soon, so that no other process evicts it from under a running graph."""
        if self.can_keep:
            with self._lock:
                self._used[recipe] = time.time()
            self._writer.poke()

    def _row(self, ask: Callable[[Index], Row | None]) -> Row | None:
        if self.index is None or self.is_broken:
            return None
        try:
            return ask(self.index)
        except sqlite3.Error as error:
            self.failed(error)
            return None

    def _read(self, ask: Callable[[Index], Row | None]) -> tuple[Entry, Row] | None:
        row = self._row(ask)
        if row is None:
            return None
        try:
            outputs = None if row.rebuilt else tuple(self._value(item) for item in row.outputs)
        except _Gone:
            return None
        return _entry(row, outputs), row

    def _value(self, item: Stored) -> object:
        try:
            data = item.data if item.data is not None else self._blob(item.content)
            if data is not None:
                if item.data is not None and digest_of(data) != item.content:
                    raise Damaged(item.content.hex())
                return decode(data)
        except (Damaged, ValueError, KeyError):
            self.warn("cache_damaged", "a stored result was damaged; it is computed again and replaced: "
                       f"{self.blobs.path(item.content)}")  # fmt: skip
        except Exception as error:  # no rights, too many open files, no memory, no codec: the file may be good
            self.warn("cache_unreadable", f"a stored result cannot be read and is computed again: {error}")
            raise _Gone() from error
        self.forget_content(item.content)
        raise _Gone()

    def _blob(self, content: bytes) -> bytes | None:
        data = self.blobs.read(content)
        if data is None and self._remote is not None:
            data = self._remote.blob(content)
            if data is not None:
                try:
                    self.blobs.check(content, data)
                except Damaged:
                    self._remote.remove_blob(content)
                    raise
                with contextlib.suppress(OSError):
                    self.blobs.write(content, data)
        return data

    def fetch(self, recipes: list[bytes]) -> None:
        """Ask the remote level for what is not known here; their rows are in the index afterwards."""
        if self._remote is None or self.index is None or not self.can_keep:
            return
        rows = []
        try:
            wanted = [recipe for recipe in recipes if self.index.get(recipe) is None]
            for recipe, data in self._remote.records(wanted).items():
                with contextlib.suppress(Damaged, ValueError, KeyError):
                    row = record.read(self.records.check(recipe, data))
                    if row.recipe == recipe:
                        rows.append(row)
            if rows:
                self.index.put(rows)
        except sqlite3.Error as error:
            self.failed(error)

    def _fetch_key(self, key: bytes) -> bool:
        """Ask the remote level for what another recipe of this key gave; whether it names one."""
        data = self._remote.key(key) if self._remote is not None and self.can_keep else None
        if data is None:
            return False
        try:
            recipe = self.records.check(key, data)
        except Damaged:
            return False
        self.fetch([recipe])
        return True

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(
        self, recipe: bytes, key: bytes | None, entry: Entry, encoded: tuple[Encoded, ...], origin: Origin,
        lease: Lease | None = None, states: tuple[bytes, ...] = (),
    ) -> bool:  # fmt: skip
        """Hand an entry to the writer, which gives the lease back, and drops the checkpoints of these names, when others
        can read it. Returns at once unless too much is waiting; False where it is not kept."""
        if not self.can_keep:
            return False
        try:
            ui = _json_of(entry.ui)
        except (TypeError, ValueError, RecursionError):
            return False
        self._pending.add(recipe)
        self._writer.put(Store(recipe, key, entry, encoded, origin, ui, lease, states))
        return True

    def put_again(self, recipe: bytes, key: bytes, origin: Origin) -> None:
        """Let a recipe share the entry that is known by this key."""
        if self.can_keep:
            self._pending.add(recipe)
            self._writer.put(Again(recipe, key, origin))

    def replace(self, recipe: bytes, key: bytes | None, entry: Entry | None, stale: frozenset[bytes]) -> None:
        """Forget what says something else for this recipe or this key, and all that stands on it, or on what is stale."""
        if not self.can_keep:
            return
        contents, ui = (entry.contents, entry.ui) if entry is not None else (None, None)
        try:
            shown = _json_of(ui)
        except (TypeError, ValueError, RecursionError):
            contents, shown = None, None
        self._writer.put(Replaced(recipe, key, contents, shown, stale))

    def flush(self) -> None:
        """Wait until all that was put is on the disk, and what was found to be lost while it was written."""
        self._writer.flush()
        if self._pending:
            self._writer.flush()

    def _write(self, jobs: list[Job]) -> bool:
        error = self._tried(jobs)
        given_up: list[bytes] = []
        for _ in range(SHRINKS):
            if error is not None and _is_full(error):
                given_up += care.make_room(self)
                error = self._tried(jobs)
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
        return error is None and not self.is_broken

    def _tried(self, jobs: list[Job]) -> Exception | None:
        try:
            self._write_batch(jobs)
        except Exception as error:  # a thread that dies of one would leave every later run waiting
            return error
        return None

    def _write_batch(self, jobs: list[Job]) -> None:
        with self._lock:
            used, self._used = self._used, {}
        changes: list[Row | Replaced] = []
        try:
            for job in jobs:
                if not self.is_broken:
                    change = self._change(job, changes)
                    if change is not None:
                        changes.append(change)
        finally:
            if self.index is not None and not self.is_broken and (changes or used):
                done = self.index.put(changes, [(at, recipe) for recipe, at in used.items()])
                self._remove(done.gone, done.unneeded)
                lost = [recipe for recipe in done.lost if recipe not in self._pending]
                if lost:
                    self._lost(lost)
        self._grown += sum(_size(change) for change in changes)
        if self.budget is not None and self._grown > self.budget * SLACK:
            self._keep_to(self.budget, sweeps=False)

    def _keep_to(self, budget: int, sweeps: bool) -> None:
        self._grown = 0
        if self.total_bytes() > budget:
            care.evict(self, int(budget * 0.9), sweeps=sweeps)

    def _remove(self, gone: set[bytes], unneeded: set[bytes]) -> None:
        for content in unneeded:
            self.blobs.remove(content)
        for recipe in gone:
            self.records.remove(recipe)
        if gone:
            self._gone(gone)
            if self._remote is not None:
                self._remote.remove_records(gone)

    def _change(self, job: Job, before: list[Row | Replaced]) -> Row | Replaced | None:
        if isinstance(job, Store):
            return self._write_files(job)
        if isinstance(job, Again):
            return self._same_again(job, before)
        if self._remote is not None and job.key is not None:
            self._remote.remove_key(job.key)
        return job

    def _same_again(self, job: Again, before: list[Row | Replaced]) -> Row | None:
        """The row of the key under one more recipe. It needs no record: where the index is lost, the key finds it."""
        self.checkpoints.remove(job.recipe)
        rows = (change for change in reversed(before) if isinstance(change, Row) and change.key == job.key)
        row = next(rows, None) or (self.index.find(job.key) if self.index is not None else None)
        if row is None or row.recipe == job.recipe:
            return None
        return replace(row, recipe=job.recipe, origin=origin_to_json(job.origin))

    def _write_files(self, job: Store) -> Row:
        rebuilt = any(item.data is None for item in job.encoded)
        outputs = []
        for item in job.encoded:
            size = len(item.data or b"")
            inline = item.data if not rebuilt and size <= INLINE else None
            if not rebuilt and inline is None:
                assert item.data is not None
                self.blobs.write(item.content, item.data)
            outputs.append(Stored(item.content, 0 if rebuilt else size, inline))
        row = Row(
            job.recipe, job.key, job.origin.type, job.ui, rebuilt, job.entry.seconds, job.entry.created,
            origin_to_json(job.origin), tuple(outputs), json.dumps(job.entry.brought) if job.entry.brought else None,
            job.entry.effect,
        )  # fmt: skip
        if job.entry.seconds >= WORTH_A_RECORD or row.blobs():
            data = record.write(row)
            self.records.write(row.recipe, data)
            if self._remote is not None:
                blobs = {item.content: item.data for item in job.encoded if item.content in row.blobs()}
                keys = {row.key: self.records.seal(row.key, row.recipe)} if row.key is not None else {}
                self._remote.push(row.recipe, self.records.seal(row.recipe, data), blobs, keys)
        return row

    def _written(self, job: Job, kept: bool) -> None:
        self._pending.discard(job.recipe)
        if isinstance(job, Store):
            if kept:
                for name in job.states:
                    self.checkpoints.remove(name)
            if job.lease is not None:
                self.give_back(job.lease)

    # -- sharing work -----------------------------------------------------------------------------------------------

    def lease(self, recipe: bytes) -> Lease | None:
        """The right to compute a recipe; None while another process has it. Raises OSError."""
        if self.leases is None:
            raise OSError("no leases here")
        return self.leases.take(recipe.hex())

    def begin_run(self) -> Lease | None:
        """A sign to all processes that a run goes on, with the time at which it began."""
        if self._remote is not None:
            self._remote.begin_run()
        try:
            return self.leases.take(f"run-{uuid.uuid4().hex}-{time.time()}") if self.leases is not None else None
        except OSError:
            return None

    def end_run(self, lease: Lease | None) -> None:
        """All is on the disk when it returns, and the folder within its budget."""
        self.flush()
        if lease is not None:
            self.give_back(lease)
        if self.budget is not None and self._grown:
            self._keep_to(self.budget, sweeps=True)

    def give_back(self, lease: Lease) -> None:
        if self.leases is not None:
            self.leases.give_back(lease)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save_checkpoint(self, recipe: bytes, value: object) -> None:
        if not self.can_keep:
            return
        try:
            data = encode(value).data
            if data is not None:
                self.checkpoints.write(recipe, data)
        except Unstorable as error:
            self.warn("cache_state", f"the state of a node cannot be kept: {error}")
        except OSError as error:
            self.trouble("cache_full", f"results are not kept any more: {error.strerror or error} ({self.path})")

    def load_checkpoint(self, recipe: bytes) -> object | None:
        try:
            data = self.checkpoints.read(recipe)
            return decode(data) if data is not None else None
        except Exception:  # damaged, or of a codec that is not here: the node starts at the beginning
            self.drop_checkpoint(recipe)
            return None

    def drop_checkpoint(self, recipe: bytes) -> None:
        self.checkpoints.remove(recipe)

    # -- care -------------------------------------------------------------------------------------------------------

    def evict(self, to_bytes: int | None, used_before: float | None = None) -> int:
        """Drop what was used least recently; never what a run that goes on has used. How many entries."""
        return care.evict(self, to_bytes, used_before)

    def verify(self) -> Verified:
        """Read everything; remove what is damaged and what dead processes have left."""
        return care.verify(self)

    def clear(self) -> bool:
        self.flush()
        return super().clear()

    def close(self) -> None:
        self.flush()
        super().close()

    def stats(self) -> list[TypeStats]:
        """By node type."""
        return self.asked(Index.stats) or []

    def total_bytes(self) -> int:
        """What the whole folder takes, about."""
        return self.asked(Index.total_bytes) or 0

    def origins(self, kind: str) -> list[tuple[Origin, float]]:
        return self.asked(lambda index: index.origins(kind)) or []


class _Gone(Exception):
    """A blob that an entry needs is not there any more, or not as it was written."""


def _entry(row: Row, outputs: tuple[object, ...] | None) -> Entry:
    ui = json.loads(row.ui) if row.ui is not None else None
    brought = tuple(Brought(*part) for part in json.loads(row.brought)) if row.brought is not None else ()
    return Entry(
        outputs, tuple(item.content for item in row.outputs), ui, row.seconds, row.created, brought, row.effect
    )


def _size(change: Row | Replaced) -> int:
    """What it takes on the disk, about."""
    return sum(item.size for item in change.outputs) + FILE_COST if isinstance(change, Row) else 0


def _json_of(ui: dict[str, Any] | None) -> str | None:
    """Raises TypeError, ValueError or RecursionError where it is no JSON."""
    return json.dumps(ui) if ui is not None else None


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
