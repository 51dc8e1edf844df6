"""Videos that a browser plays in place: recognised by their first bytes, not by their names."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["video_type"]

_HEAD = 64
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
