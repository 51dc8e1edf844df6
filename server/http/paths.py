"""The one place where text from outside becomes a path.

A name is checked segment by segment, and then opened segment by segment from its root, with no symbolic link followed:
there is no moment between a check and an opening at which something could be swapped. Names that lie outside and names
that do not exist get the same answer.
"""

from __future__ import annotations

import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from graphflow.spi import why_not

__all__ = ["BadName", "composed", "entries", "move", "open_file", "remove", "segments", "write_file"]

DEEPEST = 32


class BadName(ValueError):
    """A text that may not name a file here; the message has the reason."""


def segments(name: str, own: bool = False) -> list[str]:
    """The parts of a relative name with forward slashes, `composed`; none for an empty name. Raises BadName.

    `own`: it is a file that the user keeps here, whose name may have whatever this system allows.
    """
    if name == "":
        return []
    parts = composed(name).split("/")
    if len(parts) > DEEPEST:
        raise BadName(f"the name has {len(parts)} parts; at most {DEEPEST} are taken")
    for part in parts:
        reason = why_not(part, own)
        if reason is not None:
            raise BadName(reason)
    return parts


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC): an `é` is one letter in all names here, and two in those of some
    systems."""
    return unicodedata.normalize("NFC", name)


@contextmanager
def _folder(root: Path, parts: list[str], create: bool = False) -> Iterator[int]:
    """A descriptor of a folder below the root. Raises FileNotFoundError, also where a part is a link or no folder."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if create:
        root.mkdir(parents=True, exist_ok=True)
    here = os.open(root, flags)
    try:
        for part in parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=here)
            try:
                there = os.open(part, flags | os.O_NOFOLLOW, dir_fd=here)
            except OSError:
                raise FileNotFoundError(part) from None
            os.close(here)
            here = there
        yield here
    finally:
        os.close(here)


def _parts_of_file(name: str, own: bool) -> list[str]:
    """The parts of what is to be a file already. Raises FileNotFoundError: a forbidden name gets the same answer."""
    try:
        parts = segments(name, own)
    except BadName:
        parts = []
    if not parts:
        raise FileNotFoundError(name)
    return parts


def open_file(root: Path, name: str, own: bool = False) -> BufferedReader:
    """A plain file below the root, for reading. Raises FileNotFoundError for all that is none, or lies elsewhere."""
    parts = _parts_of_file(name, own)
    with _folder(root, parts[:-1]) as folder:
        try:
            # Without O_NONBLOCK the opening of a pipe would wait for a writer.
            number = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            raise FileNotFoundError(name) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise FileNotFoundError(name)
    return os.fdopen(number, "rb")


def write_file(root: Path, name: str, content: bytes, overwrite: bool, own: bool = False) -> os.stat_result:
    """Write a file whole or not at all, making its folders. Raises BadName, FileExistsError,
    IsADirectoryError (a folder has the name)."""
    parts = segments(name, own)
    if not parts:
        raise BadName("the name is empty")
    with _folder(root, parts[:-1], create=True) as folder:
        temporary = f".{secrets.token_hex(8)}.tmp"
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _take_name(folder, temporary, folder, parts[-1], overwrite)
            os.fsync(folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
        return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)


def move(root: Path, name: str, new_name: str, overwrite: bool, own: bool = False) -> os.stat_result:
    """Give a file another name below the same root. Raises BadName, FileNotFoundError, FileExistsError,
    IsADirectoryError."""
    old, new = segments(name, own), segments(new_name, own)
    if not old or not new:
        raise BadName("the name is empty")
    with _folder(root, old[:-1]) as source, _folder(root, new[:-1], create=True) as target:
        if not stat.S_ISREG(os.stat(old[-1], dir_fd=source, follow_symlinks=False).st_mode):
            raise FileNotFoundError(name)
        if old != new:
            _take_name(source, old[-1], target, new[-1], overwrite)
            with suppress(FileNotFoundError):
                os.unlink(old[-1], dir_fd=source)
        return os.stat(new[-1], dir_fd=target, follow_symlinks=False)


def remove(root: Path, name: str, own: bool = False) -> None:
    """Remove a plain file. Raises FileNotFoundError for all that is none."""
    parts = _parts_of_file(name, own)
    with _folder(root, parts[:-1]) as folder:
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
            raise FileNotFoundError(name)
        os.unlink(parts[-1], dir_fd=folder)


def entries(
    root: Path, name: str = "", recurse: bool = False, hidden: bool = False
) -> list[tuple[str, os.stat_result]]:
    """Plain files and folders below a folder, with names relative to it, sorted; links are left out.

    Raises FileNotFoundError where there is no such folder.
    """
    try:
        parts = segments(name, own=True)
        if not hidden and any(part.startswith(".") for part in parts):
            parts = segments(name)
    except BadName:
        raise FileNotFoundError(name) from None
    found: list[tuple[str, os.stat_result]] = []
    waiting: list[list[str]] = [[]]
    while waiting:
        below = waiting.pop()
        with _folder(root, parts + below) as folder:
            for item in os.listdir(folder):
                if item.startswith(".") and not hidden:
                    continue
                with suppress(OSError):
                    state = os.stat(item, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISDIR(state.st_mode):
                        if recurse and len(below) < DEEPEST:
                            waiting.append([*below, item])
                    elif not stat.S_ISREG(state.st_mode):
                        continue
                    found.append(("/".join([*below, item]), state))
    return sorted(found, key=lambda pair: pair[0])


def _take_name(source: int, old: str, target: int, new: str, overwrite: bool) -> None:
    if _is_folder(target, new):
        raise IsADirectoryError(new)
    if overwrite:
        os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)
        return
    try:
        # A hard link fails if the name is taken, so nothing is lost to a race.
        os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: take the name first, then put the file there.
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=target))
        os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)


def _is_folder(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
