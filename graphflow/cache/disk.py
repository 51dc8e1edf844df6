"""The disk tier: content-addressed blobs, an index, checkpoints, shared by many processes.

    FOLDER/v3/index.sqlite     recipe -> contents (small outputs lie in it)
    FOLDER/v3/blobs/           outputs, named by their digest
    FOLDER/v3/records/         a copy of each row that was worth a blob, so that the index can be lost
    FOLDER/v3/checkpoints/     states of nodes that were stopped half-way, by recipe
    FOLDER/v3/leases/          who computes what just now

Nothing that goes wrong here stops a run: it warns once, and the run goes on without the disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TypeVar

from ..problem import Problem
from ..values import Encoded, decode, encode
from . import record
from .blobs import Damaged, Files, digest_of
from .entry import Brought, Entry, Origin, origin_to_json
from .index import LAYOUT, Index, Row, Stored, TypeStats
from .leases import Lease, Leases
from .remote import Remote
from .writer import Job, Writer

__all__ = ["DiskTier", "Verified"]

T = TypeVar("T")

INLINE = 4096
"""Bytes up to which an output lies in the index."""
WORTH_A_RECORD = 0.05
"""Seconds of computing from which a small entry is kept in a record file, too."""
RETRY = 60.0
"""Seconds for which a folder that made trouble is left alone."""
SHRINK = 0.25
"""Part of the folder that is given up when the disk is full, at most SHRINKS times for one batch."""
SHRINKS = 3
ABANDONED = 3600.0
"""Seconds after which a file that belongs to nothing is taken for what a dead process left."""
CHECKPOINTS = 7 * 86400.0
"""Seconds for which a checkpoint waits for its run to be started again."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` has read and removed."""

    entries: int
    blobs: int
    damaged: int
    """Blobs and entries that were not as they had been written."""
    missing: int
    """Blobs that entries name, but that are not in this folder."""
    leftovers: int
    """Files that dead processes had left."""


class DiskTier:
    """One cache folder. `warn` is told once of each kind of trouble."""

    def __init__(
        self, folder: Path, budget: int | None = None, warn: Callable[[Problem], None] = lambda _: None,
        remote: Remote | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder / f"v{LAYOUT}"
        self.budget = budget
        self._remote = remote
        self._report = warn
        self._warned: set[str] = set()
        self._blobs = Files(self.folder / "blobs")
        self._records = Files(self.folder / "records", sealed=True)
        self._checkpoints = Files(self.folder / "checkpoints", sealed=True)
        self._used: dict[bytes, float] = {}
        self._lock = Lock()
        self._writer = Writer(self._write, self._written)
        self._has_grown = False
        self._broken_until = 0.0
        self._index: Index | None = None
        self._leases: Leases | None = None
        self.writable = False
        self._open()

    @property
    def can_keep(self) -> bool:
        """Whether what is put now is kept."""
        return self.writable and self._index is not None and not self._is_broken

    @property
    def _is_broken(self) -> bool:
        return time.monotonic() < self._broken_until

    # -- opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        path = self.folder / "index.sqlite"
        try:
            for name in ("blobs", "records", "checkpoints", "leases"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self.writable = all(os.access(part, os.W_OK) for part in (self.folder, self._blobs.folder))
        except OSError as error:
            if not os.access(path, os.R_OK):
                self._warn("cache_off", f"nothing is kept: {self.folder} cannot be used ({error.strerror})",
                           "name another folder with --cache-dir")  # fmt: skip
                return
        if not self.writable:
            self._warn("cache_read_only", f"{self.folder} cannot be written: what is in it is used, nothing new is kept",
                       "name another folder with --cache-dir")  # fmt: skip
        try:
            self._index = Index(path, read_only=not self.writable)
            if self.writable:
                self._leases = Leases(self.folder / "leases")
                if not self._index.count():
                    self._rebuild()
        except sqlite3.Error as error:
            if self.writable or path.exists():
                self._failed(error)

    def _failed(self, error: sqlite3.Error) -> None:
        """The database is busy, or the disk full: leave it alone for a while. Or it is damaged: make it again."""
        if isinstance(error, sqlite3.OperationalError) or not isinstance(error, sqlite3.DatabaseError):
            self._trouble("cache_index", f"the index of the cache cannot be used: {error}")
        elif not self.writable:
            self._index = None
            self._trouble("cache_index", f"the index of the cache is damaged: {error}")
        else:
            self._replace_index(error)

    def _replace_index(self, error: sqlite3.Error) -> None:
        """Put the damaged index aside and make it again from the records. Of several processes, one does it."""
        self._warn("cache_index", f"the index of the cache was damaged ({error}) and is made again from its records")
        damaged, self._index = self._index, None
        if damaged is not None:
            with contextlib.suppress(sqlite3.Error):
                damaged.close()
        try:
            self._leases = self._leases or Leases(self.folder / "leases")
            lease = self._leases.take("index")
            if lease is None:
                self._trouble("cache_index", "another process makes it")
                return
            try:
                for ending in ("", "-wal", "-shm"):
                    path = self.folder / f"index.sqlite{ending}"
                    with contextlib.suppress(FileNotFoundError):
                        path.rename(path.with_name(f"{path.name}.damaged"))
                self._index = Index(self.folder / "index.sqlite")
                self._rebuild()
            finally:
                self._leases.give_back(lease)
        except (sqlite3.Error, OSError) as again:
            self._trouble("cache_index", f"the index of the cache cannot be made: {again}")

    def _rebuild(self) -> None:
        assert self._index is not None
        rows = []
        for name in self._records.names():
            try:
                data = self._records.read(name)
                row = record.read(data) if data is not None else None
                if row is not None and all(self._blobs.exists(content) for content in row.blobs()):
                    rows.append(row)
            except (Damaged, ValueError, KeyError):
                self._records.remove(name)
            except OSError:
                continue
        if rows:
            self._index.put(rows)

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, recipe: bytes) -> Entry | None:
        return self._read(lambda index: index.get(recipe))

    def find(self, key: bytes) -> Entry | None:
        return self._read(lambda index: index.find(key))

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> Entry | None:
        """All of an entry but its outputs, by recipe or by key; it does not count as use."""
        row = self._row(lambda index: index.get(recipe) if recipe is not None else index.find(key or b""))
        if row is None or not all(self._remote is not None or self._blobs.exists(name) for name in row.blobs()):
            return None
        return _entry(row, None)

    def touch(self, recipe: bytes) -> None:
        """An entry was used; it is noted soon, so that no other process evicts it from under a running graph."""
        if self.can_keep:
            with self._lock:
                self._used[recipe] = time.time()
            self._writer.poke()

    def _row(self, ask: Callable[[Index], Row | None]) -> Row | None:
        if self._index is None or self._is_broken:
            return None
        try:
            return ask(self._index)
        except sqlite3.Error as error:
            self._failed(error)
            return None

    def _read(self, ask: Callable[[Index], Row | None]) -> Entry | None:
        row = self._row(ask)
        if row is None:
            return None
        try:
            outputs = None if row.rebuilt else tuple(self._value(item) for item in row.outputs)
        except _Gone:
            return None
        return _entry(row, outputs)

    def _value(self, item: Stored) -> object:
        try:
            data = item.data if item.data is not None else self._blob(item.content)
            if data is not None:
                if item.data is not None and digest_of(data) != item.content:
                    raise Damaged(item.content.hex())
                return decode(data)
        except (Damaged, ValueError, KeyError):
            self._warn("cache_damaged", "a stored result was damaged; it is computed again and replaced: "
                       f"{self._blobs.path(item.content)}")  # fmt: skip
        except Exception as error:  # no rights, too many open files, no memory, no codec: the file may be good
            self._warn("cache_unreadable", f"a stored result cannot be read and is computed again: {error}")
            raise _Gone() from error
        self._forget_content(item.content)
        raise _Gone()

    def _forget_content(self, content: bytes) -> None:
        self._blobs.remove(content)
        if self._index is None or not self.writable:
            return
        try:
            for recipe in self._index.forget_content(content):
                self._records.remove(recipe)
        except sqlite3.Error as error:
            self._failed(error)

    def _blob(self, content: bytes) -> bytes | None:
        data = self._blobs.read(content)
        if data is None and self._remote is not None:
            data = self._remote.blob(content)
            if data is not None:
                try:
                    self._blobs.check(content, data)
                except Damaged:
                    self._remote.remove_blob(content)
                    raise
                with contextlib.suppress(OSError):
                    self._blobs.write(content, data)
        return data

    def fetch(self, recipes: list[bytes]) -> None:
        """Ask the remote level for what is not known here; their rows are in the index afterwards."""
        if self._remote is None or self._index is None or not self.can_keep:
            return
        rows = []
        try:
            wanted = [recipe for recipe in recipes if self._index.get(recipe) is None]
            for recipe, data in self._remote.records(wanted).items():
                with contextlib.suppress(Damaged, ValueError, KeyError):
                    row = record.read(self._records.check(recipe, data))
                    if row.recipe == recipe:
                        rows.append(row)
            if rows:
                self._index.put(rows)
        except sqlite3.Error as error:
            self._failed(error)

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(
        self, recipe: bytes, key: bytes | None, entry: Entry, encoded: tuple[Encoded, ...], origin: Origin,
        lease: Lease | None = None,
    ) -> bool:  # fmt: skip
        """Hand an entry to the writer, which gives the lease back when others can read it. Returns at once unless too
        much is waiting; False where it is not kept."""
        if not self.can_keep:
            return False
        try:
            ui = json.dumps(entry.ui) if entry.ui is not None else None
        except (TypeError, ValueError, RecursionError):
            return False
        self._writer.put(Job(recipe, key, entry, encoded, origin, ui, lease))
        return True

    def alias(self, recipe: bytes, key: bytes, origin: Origin) -> None:
        """Let a recipe share the entry that is known by this key."""
        if not self.can_keep or self._index is None:
            return
        try:
            row = self._index.find(key)
            if row is not None and row.recipe != recipe:
                copied = replace(row, recipe=recipe, origin=origin_to_json(origin))
                self._index.put([copied])
                if self._records.exists(row.recipe):
                    self._records.write(recipe, record.write(copied))
        except sqlite3.Error as error:
            self._failed(error)
        except OSError:
            pass  # the index has it; the record is only a second copy

    def flush(self) -> None:
        """Wait until all that was put is on the disk."""
        self._writer.flush()

    def _write(self, jobs: list[Job]) -> None:
        error = self._tried(jobs)
        given_up: list[bytes] = []
        for _ in range(SHRINKS):
            if error is not None and _is_full(error):
                given_up += self._make_room()
                error = self._tried(jobs)
        if error is None:
            for content in given_up:  # not before: without room the index cannot even forget
                self._forget_content(content)
        if isinstance(error, OSError):
            self._trouble("cache_full", f"results are not kept any more: {error.strerror or error} ({self.folder})")
        elif isinstance(error, sqlite3.OperationalError):
            self._trouble("cache_full", f"results are not kept any more: {error} ({self.folder})")
        elif isinstance(error, sqlite3.Error):
            self._failed(error)
        elif error is not None:
            self._trouble("cache_failed", f"results are not kept any more: {type(error).__name__}: {error}")

    def _tried(self, jobs: list[Job]) -> Exception | None:
        try:
            self._write_batch(jobs)
        except Exception as error:  # a thread that dies of one would leave every later run waiting
            return error
        return None

    def _make_room(self) -> list[bytes]:
        """The disk is full: what was used least recently is worth less than what was computed just now. Gives the contents
        whose files are removed."""
        limit = min([time.time(), *(self._leases.alive("run-") if self._leases is not None else ())])
        wanted = self.total_bytes() * SHRINK
        gone = []
        for content, size in self._asked(lambda index: index.oldest_blobs(limit)) or ():
            if wanted > 0 and self._blobs.exists(content):
                self._blobs.remove(content)
                gone.append(content)
                wanted -= size
        return gone

    def _write_batch(self, jobs: list[Job]) -> None:
        with self._lock:
            used, self._used = self._used, {}
        rows = []
        try:
            for job in jobs:
                if not self._is_broken:
                    rows.append(self._write_files(job))
        finally:
            if self._index is not None and not self._is_broken and (rows or used):
                self._index.put(rows, [(at, recipe) for recipe, at in used.items()])
                self._has_grown = self._has_grown or bool(rows)

    def _write_files(self, job: Job) -> Row:
        rebuilt = any(item.data is None for item in job.encoded)
        outputs = []
        for item in job.encoded:
            size = len(item.data or b"")
            inline = item.data if not rebuilt and size <= INLINE else None
            if not rebuilt and inline is None:
                assert item.data is not None
                self._blobs.write(item.content, item.data)
            outputs.append(Stored(item.content, 0 if rebuilt else size, inline))
        row = Row(
            job.recipe, job.key, job.origin.type, job.ui, rebuilt, job.entry.seconds, job.entry.created,
            origin_to_json(job.origin), tuple(outputs), json.dumps(job.entry.brought) if job.entry.brought else None,
        )  # fmt: skip
        if job.entry.seconds >= WORTH_A_RECORD or row.blobs():
            data = record.write(row)
            self._records.write(row.recipe, data)
            if self._remote is not None:
                blobs = {item.content: item.data for item in job.encoded if item.content in row.blobs()}
                self._remote.push(row.recipe, self._records.seal(row.recipe, data), blobs)
        return row

    def _written(self, job: Job) -> None:
        if job.lease is not None:
            self.give_back(job.lease)

    # -- sharing work -----------------------------------------------------------------------------------------------

    def lease(self, recipe: bytes) -> Lease | None:
        """The right to compute a recipe; None while another process has it. Raises OSError."""
        if self._leases is None:
            raise OSError("no leases here")
        return self._leases.take(recipe.hex())

    def begin_run(self) -> Lease | None:
        """A sign to all processes that a run goes on, with the time at which it began."""
        try:
            return self._leases.take(f"run-{uuid.uuid4().hex}-{time.time()}") if self._leases is not None else None
        except OSError:
            return None

    def end_run(self, lease: Lease | None) -> None:
        """All is on the disk when it returns, and the folder within its budget."""
        self.flush()
        if lease is not None:
            self.give_back(lease)
        if self.budget is not None and self._has_grown:
            self._has_grown = False
            if self.total_bytes() > self.budget:
                self.evict(int(self.budget * 0.9))

    def give_back(self, lease: Lease) -> None:
        if self._leases is not None:
            self._leases.give_back(lease)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save_checkpoint(self, recipe: bytes, value: object) -> None:
        if not self.can_keep:
            return
        try:
            data = encode(value).data
            if data is not None:
                self._checkpoints.write(recipe, data)
        except OSError as error:
            self._trouble("cache_full", f"results are not kept any more: {error.strerror or error} ({self.folder})")

    def load_checkpoint(self, recipe: bytes) -> object | None:
        try:
            data = self._checkpoints.read(recipe)
            return decode(data) if data is not None else None
        except (Damaged, OSError, ValueError, KeyError):
            self.drop_checkpoint(recipe)
            return None

    def drop_checkpoint(self, recipe: bytes) -> None:
        self._checkpoints.remove(recipe)

    # -- care -------------------------------------------------------------------------------------------------------

    def stats(self) -> list[TypeStats]:
        """By node type."""
        return self._asked(Index.stats) or []

    def total_bytes(self) -> int:
        """What the whole folder takes, about."""
        return self._asked(Index.total_bytes) or 0

    def origins(self, kind: str) -> list[tuple[Origin, float]]:
        return self._asked(lambda index: index.origins(kind)) or []

    def _asked(self, ask: Callable[[Index], T]) -> T | None:
        """What the index answers; of one that is damaged, what the one made in its place answers."""
        for _ in range(2):
            if self._index is not None:
                try:
                    return ask(self._index)
                except sqlite3.Error as error:
                    self._failed(error)
        return None

    def evict(self, to_bytes: int | None, used_before: float | None = None) -> int:
        """Drop what was used least recently; never what a run that goes on has used. How many entries."""
        if not self.writable:
            return 0
        limit = time.time() + 1 if used_before is None else used_before
        if self._leases is not None:
            limit = min([limit, *self._leases.alive("run-")])
        count = 0
        while True:
            recipes, contents = self._asked(lambda index: index.evict(to_bytes, limit)) or ((), ())
            for recipe in recipes:
                self._records.remove(recipe)
            for content in contents:
                self._blobs.remove(content)
            count += len(recipes)
            if not recipes:
                self._sweep()
                return count

    def verify(self) -> Verified:
        """Read everything; remove what is damaged and what dead processes have left."""
        damaged = missing = entries = blobs = 0
        for recipe in self._asked(Index.recipes) or ():
            try:
                entries += self._index is not None and self._index.get(recipe) is not None
            except sqlite3.DatabaseError as error:
                damaged += 1
                self._failed(error)
        for content in self._asked(Index.contents) or ():
            try:
                if self._blobs.read(content) is None:
                    missing += 1
                    self._forget_content(content)
                else:
                    blobs += 1
            except (Damaged, OSError):
                damaged += 1
                self._forget_content(content)
        return Verified(entries, blobs, damaged, missing, self._sweep())

    def _sweep(self) -> int:
        """Remove files that belong to nothing: of writers that died, and blobs that no entry names."""
        if self._index is None or not self.writable:
            return 0  # without an index everything would look as if it belonged to nothing
        count = self._leases.sweep() if self._leases is not None else 0
        now = time.time()
        old = [path for files in (self._blobs, self._records, self._checkpoints) for path in files.partial()]
        contents, recipes = self._asked(Index.contents), self._asked(Index.recipes)
        for files, names in ((self._blobs, contents), (self._records, recipes)):
            known = set(names) if names is not None else set(files.names())
            old += [files.path(name) for name in files.names() if name not in known]
        count += sum(_remove_if_older(path, now - ABANDONED) for path in old)
        paths = [self._checkpoints.path(name) for name in self._checkpoints.names()]
        return count + sum(_remove_if_older(path, now - CHECKPOINTS) for path in paths)

    def clear(self) -> None:
        """Remove everything that this layout has stored in the folder."""
        self.close()
        aside = self.folder.with_name(f".{self.folder.name}-{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            self.folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        self._open()

    def close(self) -> None:
        self.flush()
        if self._leases is not None:
            self._leases.close()
            self._leases = None
        if self._index is not None:
            self._index.close()
            self._index = None

    def _trouble(self, code: str, message: str) -> None:
        self._broken_until = time.monotonic() + RETRY
        self._warn(code, message, "the run goes on; what it computes is not kept")

    def _warn(self, code: str, message: str, hint: str | None = None) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._report(Problem(code, message, hint=hint))


class _Gone(Exception):
    """A blob that an entry needs is not there any more, or not as it was written."""


def _entry(row: Row, outputs: tuple[object, ...] | None) -> Entry:
    ui = json.loads(row.ui) if row.ui is not None else None
    brought = tuple(Brought(*part) for part in json.loads(row.brought)) if row.brought is not None else ()
    return Entry(outputs, tuple(item.content for item in row.outputs), ui, row.seconds, row.created, brought)


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _remove_if_older(path: Path, than: float) -> bool:
    with contextlib.suppress(OSError):
        if path.stat().st_mtime < than:
            path.unlink()
            return True
    return False
