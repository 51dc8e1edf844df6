"""The disk tier: content-addressed blobs, an index, checkpoints, shared by many processes.

    FOLDER/v1/index.sqlite     recipe -> contents (small outputs lie in it)
    FOLDER/v1/blobs/           outputs, named by their digest
    FOLDER/v1/records/         a copy of each row that was worth a blob, so that the index can be lost
    FOLDER/v1/checkpoints/     states of nodes that were stopped half-way, by recipe
    FOLDER/v1/leases/          who computes what just now

Nothing that goes wrong here stops a run: it warns once, and the run goes on without the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread

from ..problem import Problem
from ..values import Encoded, decode, encode
from . import record
from .blobs import Damaged, Files
from .entry import Entry, Origin
from .index import Index, Row, Stored, TypeStats, origin_to_json
from .leases import Lease, Leases
from .remote import Remote

__all__ = ["DiskTier", "Verified"]

SCHEMA = 1
INLINE = 4096
"""Bytes up to which an output lies in the index."""
WORTH_A_RECORD = 0.05
"""Seconds of computing from which a small entry is kept in a record file, too."""
WAITING = 256 << 20
"""Bytes that may wait to be written before a run is held up."""
RETRY = 60.0


@dataclass(frozen=True, slots=True)
class Verified:
    blobs: int
    damaged: int
    leftovers: int


class DiskTier:
    """One cache folder. `warn` is told once of each kind of trouble."""

    def __init__(
        self, folder: Path, budget: int | None = None, warn: Callable[[Problem], None] = lambda _: None,
        remote: Remote | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder / f"v{SCHEMA}"
        self.budget = budget
        self._remote = remote
        self._report = warn
        self._warned: set[str] = set()
        self._blobs = Files(self.folder / "blobs")
        self._records = Files(self.folder / "records", sealed=True)
        self._checkpoints = Files(self.folder / "checkpoints", sealed=True)
        self._used: dict[bytes, float] = {}
        self._lock = Lock()
        self._jobs: queue.Queue[_Job | Event] = queue.Queue()
        self._waiting = 0
        self._room = Event()
        self._room.set()
        self._writer: Thread | None = None
        self._broken_until = 0.0
        self._index: Index | None = None
        self._leases: Leases | None = None
        self.writable = False
        self._open()

    # -- opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            for name in ("blobs", "records", "checkpoints", "leases"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self.writable = os.access(self.folder, os.W_OK) and os.access(self.folder / "blobs", os.W_OK)
        except OSError as error:
            if not (self.folder / "index.sqlite").exists():
                self._warn("cache_off", f"nothing is kept: {self.folder} cannot be used ({error.strerror})",
                           "name another folder with --cache-dir")  # fmt: skip
                return
        if not self.writable:
            self._warn("cache_read_only", f"{self.folder} cannot be written: what is in it is used, nothing new is kept",
                       "name another folder with --cache-dir")  # fmt: skip
        path = self.folder / "index.sqlite"
        fresh = not path.exists()
        try:
            self._index = Index(path, read_only=not self.writable)
            if self.writable:
                if fresh or not self._index.count():
                    self._rebuild()
                self._leases = Leases(self.folder / "leases")
        except sqlite3.DatabaseError as error:
            self._lost(error)

    def _lost(self, error: sqlite3.Error) -> None:
        """The index cannot be read: put it aside and make it again from the records."""
        if self._index is not None:
            with contextlib.suppress(sqlite3.Error):
                self._index.close()
        self._index = None
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if not damaged or not self.writable:
            self._trouble("cache_index", f"the index of the cache cannot be used: {error}")
            return
        self._warn("cache_index", f"the index of the cache was damaged ({error}) and is made again from its records")
        for ending in ("", "-wal", "-shm"):
            path = self.folder / f"index.sqlite{ending}"
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f"{path.name}.damaged"))
        try:
            self._index = Index(self.folder / "index.sqlite")
            self._rebuild()
            self._leases = self._leases or Leases(self.folder / "leases")
        except sqlite3.Error as again:
            self._trouble("cache_index", f"the index of the cache cannot be made: {again}")

    def _rebuild(self) -> None:
        assert self._index is not None
        rows = []
        for name in self._records.names():
            try:
                data = self._records.read(name)
                if data is not None:
                    rows.append(record.read(data))
            except (Damaged, OSError, ValueError, KeyError):
                self._records.remove(name)
        if rows:
            self._index.put(rows)

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, recipe: bytes) -> Entry | None:
        return self._read(lambda index: index.get(recipe))

    def find(self, key: bytes) -> Entry | None:
        return self._read(lambda index: index.find(key))

    def _read(self, ask: Callable[[Index], Row | None]) -> Entry | None:
        if self._index is None:
            return None
        try:
            row = ask(self._index)
            if row is None:
                return None
            outputs = None if row.rebuilt else tuple(self._value(item) for item in row.outputs)
        except sqlite3.Error as error:
            self._lost(error)
            return None
        except _Gone:
            return None
        with self._lock:
            self._used[row.recipe] = time.time()
        ui = json.loads(row.ui) if row.ui is not None else None
        return Entry(outputs, tuple(item.content for item in row.outputs), ui, row.seconds, row.created)

    def _value(self, item: Stored) -> object:
        try:
            data = item.data if item.data is not None else self._blob(item.content)
            if data is not None:
                return decode(data)
        except (Damaged, ValueError, KeyError):
            self._warn(
                "cache_damaged", f"a stored result was damaged and is computed again: {self._blobs.path(item.content)}"
            )
        except OSError as error:
            self._warn("cache_unreadable", f"a stored result cannot be read: {error}")
        self._blobs.remove(item.content)
        if self._index is not None and self.writable:
            for recipe in self._index.forget_content(item.content):
                self._records.remove(recipe)
        raise _Gone()

    def _blob(self, content: bytes) -> bytes | None:
        data = self._blobs.read(content)
        if data is None and self._remote is not None:
            data = self._remote.blob(content)
            if data is not None:
                data = self._blobs.check(content, data)
                with contextlib.suppress(OSError):
                    self._blobs.write(content, data)
        return data

    def fetch(self, recipes: list[bytes]) -> None:
        """Ask the remote level for what is not known here; their rows are in the index afterwards."""
        if self._remote is None or self._index is None or not self.writable:
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
            self._lost(error)

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(
        self, recipe: bytes, key: bytes | None, entry: Entry, encoded: tuple[Encoded, ...], origin: Origin,
        lease: Lease | None = None,
    ) -> bool:  # fmt: skip
        """Hand an entry to the writer, which gives the lease back when others can read it. Returns at once unless too
        much is waiting; False where it is not kept."""
        if not self.writable or self._index is None or time.monotonic() < self._broken_until:
            return False
        try:
            ui = json.dumps(entry.ui) if entry.ui is not None else None
        except (TypeError, ValueError):
            return False
        size = sum(len(item.data or b"") for item in encoded)
        job = _Job(recipe, key, entry, encoded, origin, ui, size, lease)
        self._room.wait()
        with self._lock:
            self._waiting += job.bytes
            if self._waiting > WAITING:
                self._room.clear()
        self._send(job)
        return True

    def alias(self, recipe: bytes, key: bytes, origin: Origin) -> None:
        """Let a recipe share the entry that is known by this key."""
        if not self.writable or self._index is None:
            return
        try:
            row = self._index.find(key)
            if row is not None and row.recipe != recipe:
                copied = replace(row, recipe=recipe, origin=origin_to_json(origin))
                self._index.put([copied])
                if self._records.path(row.recipe).exists():
                    self._records.write(recipe, record.write(copied))
        except sqlite3.Error as error:
            self._lost(error)
        except OSError:
            pass  # the index has it; the record is only a second copy

    def _send(self, job: _Job | Event) -> None:
        with self._lock:
            if self._writer is None:
                self._writer = Thread(target=self._write, name="graphflow-cache", daemon=True)
                self._writer.start()
        self._jobs.put(job)

    def flush(self) -> None:
        """Wait until all that was put is on the disk."""
        if self._writer is None and not self._used:
            return
        if not self.writable or self._index is None:
            return
        done = Event()
        self._send(done)
        done.wait()

    def _write(self) -> None:
        checked = time.monotonic()
        while True:
            batch = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < 1000:
                    batch.append(self._jobs.get_nowait())
            jobs = [job for job in batch if isinstance(job, _Job)]
            try:
                self._write_batch(jobs)
                if self.budget is not None and (
                    time.monotonic() - checked > 5 or any(isinstance(j, Event) for j in batch)
                ):
                    checked = time.monotonic()
                    if self._index is not None and self._index.total_bytes() > self.budget:
                        self.evict(int(self.budget * 0.9), protect=True)
            except sqlite3.OperationalError as error:
                self._trouble("cache_full", f"results are not kept any more: {error}")
            except sqlite3.DatabaseError as error:
                self._lost(error)
            except OSError as error:
                self._trouble("cache_full", f"results are not kept any more: {error.strerror or error} ({self.folder})")
            finally:
                with self._lock:
                    self._waiting -= sum(job.bytes for job in jobs)
                    if self._waiting <= WAITING:
                        self._room.set()
            for job in batch:
                if isinstance(job, Event):
                    job.set()
                elif job.lease is not None:
                    self.give_back(job.lease)

    def _write_batch(self, jobs: list[_Job]) -> None:
        with self._lock:
            used, self._used = self._used, {}
        rows = []
        try:
            for job in jobs:
                if time.monotonic() >= self._broken_until:
                    rows.append(self._write_files(job))
        finally:
            if self._index is not None and (rows or used):
                self._index.put(rows, [(at, recipe) for recipe, at in used.items()])

    def _write_files(self, job: _Job) -> Row:
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
            origin_to_json(job.origin), tuple(outputs),
        )  # fmt: skip
        if job.entry.seconds >= WORTH_A_RECORD or any(item.size and item.data is None for item in outputs):
            data = record.write(row)
            self._records.write(row.recipe, data)
            if self._remote is not None:
                blobs = {item.content: item.data for item in job.encoded if len(item.data or b"") > INLINE}
                self._remote.push(row.recipe, self._records.path(row.recipe).read_bytes(), blobs)
        return row

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

    def give_back(self, lease: Lease) -> None:
        if self._leases is not None:
            self._leases.give_back(lease)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save_checkpoint(self, recipe: bytes, value: object) -> None:
        if not self.writable or time.monotonic() < self._broken_until:
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

    def stats(self) -> tuple[list[TypeStats], int]:
        """By node type, and the bytes of all blobs."""
        if self._index is None:
            return [], 0
        return self._index.stats(), self._index.total_bytes()

    def origins(self, kind: str) -> list[tuple[Origin, float]]:
        try:
            return self._index.origins(kind) if self._index is not None else []
        except sqlite3.Error:
            return []

    def evict(self, to_bytes: int | None, used_before: float | None = None, protect: bool = True) -> int:
        """Drop what was used least recently; never what a run that goes on has used. How many entries."""
        if self._index is None:
            return 0
        limit = time.time() + 1 if used_before is None else used_before
        if protect and self._leases is not None:
            limit = min([limit, *self._leases.alive("run-")])
        recipes, contents = self._index.evict(to_bytes, limit)
        for recipe in recipes:
            self._records.remove(recipe)
        for content in contents:
            self._blobs.remove(content)
        return len(recipes)

    def verify(self) -> Verified:
        """Read every blob; remove the damaged ones and what dead writers have left."""
        damaged = count = 0
        assert self._index is not None
        for content, _ in self._index.contents():
            count += 1
            try:
                good = self._blobs.read(content) is not None
            except (Damaged, OSError):
                good = False
            if not good:
                damaged += 1
                self._blobs.remove(content)
                for recipe in self._index.forget_content(content):
                    self._records.remove(recipe)
        left = 0
        hour_ago = time.time() - 3600
        for files in (self._blobs, self._records, self._checkpoints):
            for path in files.leftovers(hour_ago):
                path.unlink(missing_ok=True)
                left += 1
        return Verified(count, damaged, left)

    def clear(self) -> None:
        """Remove everything this version has stored in the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
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
    """A blob that an entry needs is not there any more."""


@dataclass(frozen=True, slots=True)
class _Job:
    recipe: bytes
    key: bytes | None
    entry: Entry
    encoded: tuple[Encoded, ...]
    origin: Origin
    ui: str | None
    bytes: int
    lease: Lease | None
