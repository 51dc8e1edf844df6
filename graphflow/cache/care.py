"""Keeping a cache folder in order: within its budget, free of damage and of what dead processes left."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from .blobs import Damaged, listed
from .folder import Folder
from .index import Index

__all__ = ["Verified", "evict", "make_room", "verify"]

SHRINK = 0.25
"""Part of the folder that is given up when the disk is full."""
ABANDONED = 3600.0
"""Seconds after which a file that belongs to nothing is taken for what a dead process left."""
CHECKPOINTS = 7 * 86400.0
"""Seconds for which a checkpoint waits for its run to be started again."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of `verify`: the numbers of what it has read and removed."""

    entries: int
    blobs: int
    damaged: int
    """Blobs and entries that were not as they had been written."""
    missing: int
    """Blobs that entries name, but that are not in this folder."""
    leftovers: int
    """Files that dead processes had left."""


def evict(folder: Folder, to_bytes: int | None, used_before: float | None = None, sweeps: bool = True) -> int:
    """Drop what was used least recently; never what a run that goes on has used. How many entries. And look for files
    that belong to nothing, unless there is no time for that."""
    if not folder.writable:
        return 0
    limit = time.time() + 1 if used_before is None else used_before
    if folder.leases is not None:
        limit = min([limit, *folder.leases.alive("run-")])
    count = 0
    while True:
        recipes, contents = folder.asked(lambda index: index.evict(to_bytes, limit)) or ((), ())
        for recipe in recipes:
            folder.records.remove(recipe)
        for content in contents:
            folder.blobs.remove(content)
        count += len(recipes)
        if not recipes:
            if sweeps:
                _sweep(folder)
            return count


def make_room(folder: Folder) -> list[bytes]:
    """The disk is full: what was used least recently is worth less than what was computed just now. Gives the contents
    whose files are removed."""
    limit = min([time.time(), *(folder.leases.alive("run-") if folder.leases is not None else ())])
    wanted = (folder.asked(Index.total_bytes) or 0) * SHRINK
    gone = []
    for content, size in folder.asked(lambda index: index.oldest_blobs(limit)) or ():
        if wanted > 0 and folder.blobs.exists(content):
            folder.blobs.remove(content)
            gone.append(content)
            wanted -= size
    return gone


def verify(folder: Folder) -> Verified:
    """Read everything; remove what is damaged and what dead processes have left."""
    damaged = missing = entries = blobs = 0
    for recipe in folder.asked(Index.recipes) or ():
        try:
            entries += folder.index is not None and folder.index.get(recipe) is not None
        except sqlite3.DatabaseError as error:
            damaged += 1
            folder.failed(error)
    for content in folder.asked(Index.contents) or ():
        try:
            if folder.blobs.read(content) is None:
                missing += 1
                folder.forget_content(content)
            else:
                blobs += 1
        except Damaged:
            damaged += 1
            folder.forget_content(content)
        except OSError:
            continue  # it cannot be read now; its bytes may be good
    return Verified(entries, blobs, damaged, missing, _sweep(folder))


def _sweep(folder: Folder) -> int:
    """Remove files that belong to nothing: of writers that died, and blobs that no entry names."""
    if folder.index is None or not folder.writable:
        return 0  # without an index everything would look as if it belonged to nothing
    count = folder.leases.sweep() if folder.leases is not None else 0
    now = time.time()
    old = [path for files in (folder.blobs, folder.records, folder.checkpoints) for path in files.partial()]
    contents, recipes = folder.asked(Index.contents), folder.asked(Index.recipes)
    for files, names in ((folder.blobs, contents), (folder.records, recipes)):
        known = set(names) if names is not None else set(files.names())
        old += [files.path(name) for name in files.names() if name not in known]
    count += sum(_remove_if_older(path, now - ABANDONED) for path in old)
    for path in listed(folder.path.parent):
        if path.name.startswith(".v") and _is_older(path, now - ABANDONED):  # put aside by an earlier version's `clear`
            shutil.rmtree(path, ignore_errors=True)
            count += 1
    paths = [folder.checkpoints.path(name) for name in folder.checkpoints.names()]
    return count + sum(_remove_if_older(path, now - CHECKPOINTS) for path in paths)


def _remove_if_older(path: Path, than: float) -> bool:
    with contextlib.suppress(OSError):
        if _is_older(path, than):
            path.unlink()
            return True
    return False


def _is_older(path: Path, than: float) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime < than
    return False
