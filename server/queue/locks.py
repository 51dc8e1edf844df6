"""One server at a time for a folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from graphflow import GraphFlowError, Problem

__all__ = ["FolderLock"]


class FolderLock:
    """Held until `release()`, or until the process is dead. Raises GraphFlowError while another process has it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            hint = "stop it, or choose another state folder"
            raise GraphFlowError([Problem("folder_in_use", f"another server uses {path.parent}", hint=hint)]) from None

    def release(self) -> None:
        os.close(self._file)
