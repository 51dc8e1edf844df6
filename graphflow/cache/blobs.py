"""Files of the disk tier, each written whole or not at all and checked when it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile

__all__ = ["Damaged", "Files"]


class Damaged(Exception):
    """A file whose bytes are not those that its name or its last line promises."""


class Files:
    """`FOLDER/ab/abcdef...`: a name is in hexadecimal, its first byte names the sub-folder.

    `sealed` files carry a digest of their own at the end; the others are named by their digest.
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
        if not self._sealed and path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            try:
                file.write(data + blake2b(data, digest_size=32).digest() if self._sealed else data)
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
            data, name = data[:-32], data[-32:]
        if blake2b(data, digest_size=32).digest() != name:
            raise Damaged(str(self.path(name)))
        return data

    def remove(self, name: bytes) -> None:
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def names(self) -> Iterator[bytes]:
        for path in self.folder.glob("??/*"):
            if not path.name.startswith("."):
                with contextlib.suppress(ValueError):
                    yield bytes.fromhex(path.name)

    def leftovers(self, older_than: float) -> Iterator[Path]:
        """Temporary files of writers that died."""
        for path in self.folder.glob("??/.*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < older_than:
                    yield path
