"""Compiled code on disk, beside the cache: one file for each network and shape, which states the shared libraries that
it needs. A file that is damaged, or whose libraries are, counts as missing. What was not used for longest is removed
when all of it takes more than `LIMIT`; torch's own files lie in the same folder, and are counted and removed alike.

As the libraries, the files are code that this process will run: the folder must belong to the user.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .settle import code_folder

__all__ = ["LIMIT", "read_code", "write_code"]

LIMIT = 2 << 30
"""Bytes of the folder."""
SUFFIX = ".code"


def read_code(key: str) -> dict[str, Any] | None:
    """What was written under a key; None where nothing sound is there."""
    path = _path(key)
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if _digest(body) != digest.decode(errors="replace"):
        return None
    found: dict[str, Any] = json.loads(body)
    libraries = {code_folder() / name: digest for name, digest in found["libraries"].items()}
    for library, digest in libraries.items():
        try:
            if _digest(library.read_bytes()) != digest:
                library.unlink()  # torch would load it unseen; it makes another
                return None
        except OSError:
            return None
    for used in (path, *libraries):
        with suppress(OSError):
            os.utime(used)
    content: dict[str, Any] = found["content"]
    return content


def write_code(key: str, content: dict[str, Any], libraries: list[Path]) -> bool:
    """Returns whether it could be written: a run goes on where the disk is full."""
    folder, path = code_folder(), _path(key)
    try:
        stated = {str(one.relative_to(folder)): _digest(one.read_bytes()) for one in libraries}
        body = json.dumps({"content": content, "libraries": stated}).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            whole = Path(place) / path.name
            whole.write_bytes(f"{_digest(body)}\n".encode() + body)
            whole.replace(path)
        _make_room(folder)
    except (OSError, ValueError):
        return False
    return True


def _make_room(folder: Path) -> None:
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            state = path.stat()
            if path.is_file() and state.st_size:
                found.append((state.st_mtime, state.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT:
            return
        with suppress(OSError):
            path.unlink()
            total -= size


def _path(key: str) -> Path:
    return code_folder() / "graphflow" / f"{key}{SUFFIX}"


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()
