"""The file that the queue lives in: SQLite, one writer thread that commits what came together in one go, readers
beside.

WAL with synchronous=FULL: what a future of `write` has answered survives a crash of the process and of the machine.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from graphflow import GraphFlowError, Problem

from .records import Counts, OwnerLost, QueueEvent
from .schema import MIGRATIONS

__all__ = ["QueueStore", "QueueTransaction"]

log = logging.getLogger("graphflow.queue")

T = TypeVar("T")
LARGEST_BATCH = 500
READERS = 2


@dataclass(frozen=True, slots=True)
class QueueTransaction:
    """The argument of an action: the connection, and a list for the events that become true with the commit."""

    db: sqlite3.Connection
    events: list[QueueEvent] = field(default_factory=list)


class QueueStore:
    """Opens (and if need be upgrades) the file. Thread-safe.

    `on_commit(events, counts)` is called in the writer thread after every commit, `on_lost()` there when another server
    has opened the file. Raises GraphFlowError if the file is
    of a newer version, damaged, or not a database. A write raises OwnerLost once another server has opened the file.
    """

    def __init__(
        self,
        path: Path,
        on_commit: Callable[[list[QueueEvent], Counts], None] = lambda *_: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._on_commit, self._on_lost = on_commit, on_lost
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = _connect(path)
        try:
            _check(self._db, path)
            _migrate(self._db, path)
            self._owner = _take_over(self._db)
            self.counts = _count(self._db)
        except BaseException:
            self._db.close()
            raise
        self._jobs: SimpleQueue[_Write | None] = SimpleQueue()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, "graphflow-queue-read")
        self._writer = threading.Thread(target=self._write, name="graphflow-queue", daemon=True)
        self._writer.start()

    def write(self, action: Callable[[QueueTransaction], T]) -> Future[T]:
        """Run it in the next transaction, after all that were asked for before; answers when that is on the disk.

        An action that raises is undone alone; the others of its transaction stay.
        """
        job = _Write(action)
        job.future.set_running_or_notify_cancel()  # it will be done, even if whoever asked no longer waits
        self._jobs.put(job)
        return job.future

    def read(self, action: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run it in a reader thread: sees all that has been committed, waits for no writer."""
        return self._readers.submit(lambda: action(self._reader()))

    def close(self) -> None:
        """Finish what was asked for, and close the file."""
        self._jobs.put(None)
        self._writer.join()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        self._db.close()

    def _reader(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is None:
            found = self._local.db = _connect(self._path)
            found.execute("PRAGMA query_only=ON")
            self._connections.append(found)
        return found

    def _write(self) -> None:
        ending = False
        while not ending:
            jobs: list[_Write] = []
            job = self._jobs.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == LARGEST_BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
            ending = job is None
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Write]) -> None:
        events: list[QueueEvent] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            if self._db.execute("SELECT owner FROM server").fetchone()[0] != self._owner:
                raise OwnerLost(self._path)
            for job in jobs:
                job.attempt(self._db, events)
            counts = _count(self._db)
            self._db.execute("COMMIT")
        except (sqlite3.Error, OwnerLost) as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            for job in jobs:
                job.future.set_exception(error)
            if isinstance(error, OwnerLost):
                self._on_lost()
            return
        self.counts = counts
        try:
            self._on_commit(events, counts)
        except Exception:
            log.exception("the events of a commit could not be published")
        for job in jobs:
            job.answer()


@dataclass(slots=True)
class _Write:
    action: Callable[[QueueTransaction], Any]
    future: Future[Any] = field(default_factory=Future)
    value: Any = None
    error: BaseException | None = None

    def attempt(self, db: sqlite3.Connection, events: list[QueueEvent]) -> None:
        """Raises sqlite3.Error only where the whole transaction is lost (disk full, I/O error)."""
        within = QueueTransaction(db)
        db.execute("SAVEPOINT job")
        try:
            self.value = self.action(within)
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            self.error = error
            db.execute("ROLLBACK TO job")
        else:
            events.extend(within.events)
        db.execute("RELEASE job")

    def answer(self) -> None:
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
        if db.execute("PRAGMA page_count").fetchone()[0] == 0:
            os.chmod(path, 0o600)
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CORRUPT:
            raise _damaged(path, str(error)) from error
        hint = "move the file away to begin with an empty queue"
        raise GraphFlowError(
            [Problem("bad_queue_file", f"cannot open the queue {path}: {error}", hint=hint)]
        ) from error
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Raises GraphFlowError where the file is damaged: better now than in the middle of a prompt. Reads the whole
    file."""
    try:
        found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise _damaged(path, found)


def _damaged(path: Path, found: str) -> GraphFlowError:
    copy = path.with_name(f"{path.stem}-recovered{path.suffix}")
    hint = (
        f"keep a copy of the folder, and recover what can be read with: sqlite3 {path} .recover | sqlite3 {copy}; "
        "or move the file away to begin with an empty queue"
    )
    return GraphFlowError([Problem("damaged_queue_file", f"the queue {path} is damaged: {found}", hint=hint)])


def _take_over(db: sqlite3.Connection) -> int:
    """Become the owner of the file; the number that shows it in every transaction."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("UPDATE server SET owner = owner + 1")
        owner = int(db.execute("SELECT owner FROM server").fetchone()[0])
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return owner


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, a version at a time; each step is a transaction, so it may be killed anywhere."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise GraphFlowError(
            [
                Problem(
                    "newer_queue_file",
                    f"the queue {path} was written by a newer version of graphflow (schema {version}; "
                    f"this one knows {len(MIGRATIONS)})",
                    hint="upgrade graphflow, or start with another state folder",
                )
            ]
        )
    for number in range(version, len(MIGRATIONS)):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={number + 1}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def _count(db: sqlite3.Connection) -> Counts:
    counts = dict(db.execute("SELECT state, prompts FROM counts").fetchall())
    return Counts(counts["pending"], counts["running"])
