"""Files of the disk tier, each written whole or not at all and checked when it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile

__all__ = ["Damaged", "Files", "digest_of", "listed"]

SEAL = 32


class Damaged(Exception):
    """A file whose bytes are not those that its name or its seal promises."""


def digest_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


class Files:
    """`FOLDER/ab/abcdef...`: a name is in hexadecimal, its first byte names the sub-folder.

    `sealed` files end with a digest of their bytes and their name; the others are named by their digest.
    """

    def __init__(self, folder: Path, sealed: bool = False) -> None:
        self.folder = folder
        self._sealed = sealed

    def path(self, name: bytes) -> Path:
        text = name.hex()
        return self.folder / text[:2] / text

    def write(self, name: bytes, data: bytes) -> None:
        """Raises OSError; then nothing is left behind."""
        path = self.path(name)
        if not self._sealed and _size(path) == len(data):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            try:
                file.write(self.seal(name, data) if self._sealed else data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise

    def read(self, name: bytes) -> bytes | None:
        """The bytes, or None where there is no such file. Raises Damaged, OSError."""
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            return None
        return self.check(name, data)

    def check(self, name: bytes, data: bytes) -> bytes:
        if self._sealed:
            data, seal = data[:-SEAL], data[-SEAL:]
            good = seal == _seal(name, data)
        else:
            good = digest_of(data) == name
        if not good:
            raise Damaged(str(self.path(name)))
        return data

    def seal(self, name: bytes, data: bytes) -> bytes:
        """The bytes of a sealed file."""
        return data + _seal(name, data)

    def exists(self, name: bytes) -> bool:
        return self.path(name).exists()

    def remove(self, name: bytes) -> None:
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def names(self) -> Iterator[bytes]:
        for path in self._paths():
            if not path.name.startswith("."):
                with contextlib.suppress(ValueError):
                    yield bytes.fromhex(path.name)

    def partial(self) -> Iterator[Path]:
        """Files that are being written, or whose writers died."""
        return (path for path in self._paths() if path.name.startswith("."))

    def _paths(self) -> Iterator[Path]:
        for folder in listed(self.folder):
            yield from listed(folder)


def listed(folder: Path) -> list[Path]:
    """The paths in a folder; none where it cannot be read."""
    try:
        return [folder / name for name in os.listdir(folder)]
    except OSError:
        return []


def _seal(name: bytes, data: bytes) -> bytes:
    return blake2b(data, digest_size=SEAL, key=name[:64]).digest()


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
