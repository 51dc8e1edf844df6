"""Videos: recognised by their first bytes, not by their names. Some of them a browser plays in place."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["ENDINGS", "IMAGES", "is_video", "video_type"]

_ISO, _EBML, _AVI = "ISO", "EBML", "AVI"
ENDINGS = {".mp4": _ISO, ".m4v": _ISO, ".mov": _ISO, ".mkv": _EBML, ".webm": _EBML, ".avi": _AVI}
"""Ending of a name -> the family of containers that the file must be of."""
_HEAD = 64
_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip")
"""First boxes of QuickTime files that are older than `ftyp`."""
IMAGES = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"jpeg", b"crx ")
"""Brands of images in the same container."""
_MP4 = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash")
"""Brands of MP4, which QuickTime and images in HEIF do not have."""


def video_type(file: BinaryIO) -> str | None:
    """`video/mp4` or `video/webm` by the bytes of a file, or None; reads the head only and rewinds."""
    head = file.read(_HEAD)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in _MP4:
        return "video/mp4"
    is_ebml = head[:4] == b"\x1a\x45\xdf\xa3"
    return "video/webm" if is_ebml and b"webm" in head else None


def is_video(data: bytes, ending: str) -> bool:
    """Whether bytes begin as a video of this ending (one of ENDINGS) does."""
    head = data[:_HEAD]
    if (head[4:8] == b"ftyp" and head[8:12] not in IMAGES) or head[4:8] in _BOXES:
        found = _ISO
    elif head[:4] == b"\x1a\x45\xdf\xa3" and (b"webm" in head or b"matroska" in head):
        found = _EBML
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        found = _AVI
    else:
        return False
    return ENDINGS.get(ending) == found
