"""One file with weights: its format is found in its first bytes, whatever its name ends with."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from .gguf_file import read_gguf
from .pickle_file import LEGACY_MAGIC, read_legacy_pickle, read_zip_pickle
from .safetensors_file import read_safetensors
from .tensor_info import Contents, unreadable

__all__ = ["ENDINGS", "is_hidden", "is_pickled", "read_weight_file"]

ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".pt2", ".bin", ".gguf")
"""Of files that may hold weights."""

_OTHERS = {
    b"7z\xbc\xaf'\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
    b"MZ": "a Windows program",
    b"\x7fELF": "a program",
    b"\0\5\26\7": "notes of macOS about a file (AppleDouble)",
    b"\x08\0\0\0TFL3": "a TensorFlow Lite file",
}
"""The other kinds of files that carry a model's name, by their first bytes."""


def is_hidden(name: str) -> bool:
    """Hidden files are never models: `._x` are notes of macOS, others are downloads that are not finished."""
    return name.startswith(".")


def is_pickled(path: Path) -> bool:
    """Whether `torch.save` wrote the file, whatever its name ends with. Raises OSError."""
    with open(path, "rb") as file:
        start = file.read(16)
    return start.startswith((b"PK\3\4", LEGACY_MAGIC[:16])) or (start[:1] == b"\x80" and start[1:2] <= b"\5")


def read_weight_file(path: Path) -> Contents:
    """The content of a file, from its header. Raises GraphFlowError with one Problem in plain words."""
    try:
        found = os.stat(path)
        return _read(str(path), found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None


@lru_cache(maxsize=64)
def _read(name: str, size: int, mtime: int) -> Contents:
    path = Path(name)
    with open(path, "rb") as file:
        start = file.read(512)
        if start.startswith(b"PK\3\4"):
            return read_zip_pickle(path, file, size)
        if start.startswith(LEGACY_MAGIC):
            file.seek(0)
            return read_legacy_pickle(path, file, size)
        if start.startswith(b"GGUF"):
            return read_gguf(path, file, size)
        if start[8:9] == b"{":
            return read_safetensors(path, file, size)
    raise _something_else(path, start, size)


def _something_else(path: Path, start: bytes, size: int) -> Exception:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = text.lower()
    if not size:
        return unreadable(path, "it is empty", "download it again")
    if text.startswith(b"version https://git-lfs"):
        return unreadable(path, "it is a Git LFS pointer, not the file itself", "fetch the file: git lfs pull")
    if re.match(rb"<(!doctype|html|head|\?xml|!--)", lower):
        return unreadable(
            path,
            "it is a web page, not a model",
            "the download gave a page (a login, an error); open its address in a browser",
        )
    if text.startswith((b"{", b"[")):
        return unreadable(
            path, "it is JSON, not a model", "the download gave a message; look into it with a text editor"
        )
    if not start.strip(b"\0"):
        return unreadable(path, "it begins with zeros: its download was not finished", "download it again")
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            return unreadable(path, f"it is {what}", "unpack it" if "archive" in what else None)
    if start[:1] == b"\x80" and start[1:2] <= b"\5":
        return unreadable(path, "it is a pickle, and not of torch.save", "get it as .safetensors")
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return unreadable(path, "it is a text, not a model", "look into it with a text editor")
    return unreadable(
        path,
        "it begins as no kind of model file does",
        "models are .safetensors, .gguf, and files of torch.save (.ckpt, .pt, .pth, .bin)",
    )
