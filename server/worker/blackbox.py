"""The nodes that a worker was at when it died, one of each run: written before each node into a file, so no sudden
death can take them along.

The file is the worker's lock as well: a lock of the process (not of its children), which the kernel drops with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

__all__ = ["BlackBox", "last_node"]

SIZE = 4096
"""Bytes of a note."""


class BlackBox:
    """Ends the worker before this one, which must not write files beside the next run, and waits for its end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        self._mutex = Lock()
        self._places: dict[tuple[str, int], int] = {}
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                holder = _holder(self._file)
                if holder is not None:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(holder, signal.SIGKILL)
                time.sleep(0.02)

    def at(self, prompt_id: str, epoch: int, node: str, display: str) -> None:
        """This run is at this node now. Some microseconds: nothing is synced, as the machine has not died."""
        note = json.dumps([prompt_id, epoch, node, display]).encode()
        if len(note) < SIZE:
            os.pwrite(self._file, note.ljust(SIZE, b"\0"), SIZE * self._place(prompt_id, epoch))

    def end(self, prompt_id: str, epoch: int) -> None:
        """This run needs its place no more."""
        with self._mutex:
            self._places.pop((prompt_id, epoch), None)

    def _place(self, prompt_id: str, epoch: int) -> int:
        with self._mutex:
            place = self._places.get((prompt_id, epoch))
            if place is None:
                taken = set(self._places.values())
                place = next(index for index in range(len(taken) + 1) if index not in taken)
                self._places[prompt_id, epoch] = place
            return place


def last_node(path: Path, prompt_id: str, epoch: int) -> tuple[str, str] | None:
    """The node that this run has begun last, and the node of the workflow that it belongs to."""
    try:
        notes = path.read_bytes()
    except OSError:
        return None
    for start in range(0, len(notes), SIZE):
        with suppress(ValueError):
            noted = json.loads(notes[start : start + SIZE].rstrip(b"\0"))
            if noted[:2] == [prompt_id, epoch]:
                return noted[2], noted[3]
    return None


def _holder(file: int) -> int | None:
    """The process that has the lock, from the kernel; None where it cannot be asked (the other one sees its server's
    end)."""
    if sys.platform != "linux":
        return None
    flock = struct.Struct("hhqqi")  # l_type, l_whence, l_start, l_len, l_pid
    kind, _, _, _, pid = flock.unpack(fcntl.fcntl(file, fcntl.F_GETLK, flock.pack(fcntl.F_WRLCK, 0, 0, 0, 0)))
    return int(pid) if kind != fcntl.F_UNLCK and pid > 0 else None
