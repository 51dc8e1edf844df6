"""Who computes what, between processes: a lock file for each recipe that is being computed.

The operating system drops the lock of a process that dies, so a dead one blocks nobody. A process that hangs or is
stopped stops renewing the file's time; after STALE seconds others take over.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from pathlib import Path
from threading import Event, Lock, Thread

from .blobs import listed

try:
    import fcntl
except ImportError:  # not a POSIX system: every process computes for itself
    fcntl = None  # type: ignore[assignment]

__all__ = ["Lease", "Leases"]

STALE = 30.0
RENEW = 5.0


class Lease:
    """Held until `Leases.give_back`, or until the process ends. After that its number may be another file's."""

    __slots__ = ("_file", "path")

    def __init__(self, path: Path, file: int) -> None:
        self.path, self._file = path, file

    def renew(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._file)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if _is(self.path, self._file):
                os.unlink(self.path)
        self.drop()

    def drop(self) -> None:
        """In a child of the process that holds it: not the child's, so the name stays."""
        with contextlib.suppress(OSError):
            os.close(self._file)


class Leases:
    """The lock files of one cache folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: set[Lease] = set()
        self._lock = Lock()
        self._stop = Event()
        self._renewer: Thread | None = None
        if fcntl is not None:
            here = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _drop_in_child(here()))

    def take(self, name: str) -> Lease | None:
        """The lease, or None while another process holds it. Raises OSError where no file can be made."""
        path = self._folder / name
        while True:
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
            if _locked(file):
                if _is(path, file):
                    return self._hold(Lease(path, file))
                os.close(file)  # its holder has just removed the name; the lock was on a file that is gone
                continue
            stale = time.time() - os.fstat(file).st_mtime > STALE
            if stale and _is(path, file):
                with contextlib.suppress(OSError):
                    os.unlink(path)
            os.close(file)
            if not stale:
                return None

    def _hold(self, lease: Lease) -> Lease:
        lease.renew()
        with self._lock:
            self._held.add(lease)
            if self._renewer is None:
                self._renewer = Thread(target=self._renew, name="graphflow-leases", daemon=True)
                self._renewer.start()
        return lease

    def give_back(self, lease: Lease) -> None:
        """Once: a lease that is given back already, as `close` does with all of them, stays so."""
        with self._lock:
            if lease not in self._held:
                return
            self._held.remove(lease)
        lease.release()

    def alive(self, prefix: str) -> list[float]:
        """Times at which the holders of leases of this prefix began, for those that live; a stopped one lives."""
        began = []
        for path in listed(self._folder):
            with contextlib.suppress(OSError, ValueError):
                if path.name.startswith(prefix) and not self._abandoned(path):
                    began.append(float(path.name.rpartition("-")[2]))
        return began

    def sweep(self) -> int:
        """Remove the lock files of processes that died; how many."""
        gone = 0
        for path in listed(self._folder):
            with contextlib.suppress(OSError):
                if self._abandoned(path):
                    path.unlink()
                    gone += 1
        return gone

    def _abandoned(self, path: Path) -> bool:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return _locked(file) and time.time() - os.fstat(file).st_mtime > 1  # it may be new and not locked yet
        finally:
            os.close(file)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW):
            with self._lock:  # none may be given back meanwhile: its number could be another file's by then
                for lease in self._held:
                    lease.renew()

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            held = list(self._held)
        for lease in held:
            self.give_back(lease)


def _drop_in_child(leases: Leases | None) -> None:
    """A lock is free when all copies of its file are closed: a child that lives on must hold none."""
    if leases is not None:
        leases._lock = Lock()  # a thread that is not in the child may have had it
        for lease in list(leases._held):
            lease.drop()
        leases._held.clear()


def _locked(file: int) -> bool:
    """Whether the lock could be taken; it is given back when the file is closed."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is(path: Path, file: int) -> bool:
    """Whether the open file still has its name."""
    try:
        return os.stat(path).st_ino == os.fstat(file).st_ino
    except OSError:
        return False
