"""Sounds: recognised by their first bytes, not by their names. Most of them a browser plays in place."""

from __future__ import annotations

import io
from typing import BinaryIO

from graphflow.spi import sound_kind

from .videos import IMAGES

__all__ = ["ENDINGS", "is_sound", "sound_type"]

ENDINGS = {
    ".wav": "wav",
    ".mp3": "mp3",
    ".flac": "flac",
    ".ogg": "ogg",
    ".oga": "ogg",
    ".opus": "ogg",
    ".m4a": "mp4",
    ".aac": "aac",
    ".aiff": "aiff",
    ".aif": "aiff",
}
"""Ending of a name -> the kind that the file must be of."""
_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg", "aac": "audio/aac"}
_M4A = (b"M4A ", b"M4B ")
"""Brands of MP4 files that hold a sound alone."""


def sound_type(file: BinaryIO) -> str | None:
    """`audio/flac` and the like by the bytes of a file, or None; reads the head only and rewinds."""
    kind = sound_kind(file)
    if kind == "mp4":
        brand = file.read(12)[8:]
        file.seek(0)
        return "audio/mp4" if brand in _M4A else None
    return _TYPES.get(kind or "")


def is_sound(data: bytes, ending: str) -> bool:
    """Whether bytes begin as a sound of this ending (one of ENDINGS) does."""
    kind = sound_kind(io.BytesIO(data))
    return kind == ENDINGS.get(ending) and not (kind == "mp4" and data[8:12] in IMAGES)
