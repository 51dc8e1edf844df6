"""Files with sound, recognised by their first bytes: a name may say anything."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["sound_kind"]

_HEAD = 16
_ID3 = 10
"""Bytes of the header of an ID3 tag; the last four are the size of the rest, seven bits each."""


def sound_kind(file: BinaryIO) -> str | None:
    """`wav`, `flac`, `ogg`, `mp3`, `aac`, `aiff`, or of the containers that may hold a sound, `mp4`, `matroska`,
    `avi`; None of other files. Reads the head only and rewinds."""
    head = file.read(_HEAD)
    tag = _tag(head)
    if tag:
        file.seek(tag)
        behind = file.read(_HEAD)
        file.seek(0)
        return _kind(behind) or "mp3"
    file.seek(0)
    return _kind(head)


def _tag(head: bytes) -> int:
    """Bytes of the ID3 tag that a file begins with, 0 without one."""
    if head[:3] != b"ID3" or len(head) < _ID3 or max(head[6:_ID3]) > 127:
        return 0
    size = 0
    for byte in head[6:_ID3]:
        size = size << 7 | byte
    return _ID3 + size


def _kind(head: bytes) -> str | None:
    begin, form = head[:4], head[8:12]
    if begin in (b"RIFF", b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(form)
    if begin == b"FORM" and form in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return "mp4"
    return {b"fLaC": "flac", b"OggS": "ogg", b"\x1a\x45\xdf\xa3": "matroska"}.get(begin) or _frame(head)


def _frame(head: bytes) -> str | None:
    """The head of a frame of MPEG (ISO/IEC 11172-3, 2.4.2.3; 13818-7, 6.2): 11 bits of 1, version, layer, rates."""
    if len(head) < 4 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 0xF < 13:
        return "aac"
    is_layer_3 = head[1] & 0xE6 == 0xE2 and head[1] >> 3 & 3 != 1
    return "mp3" if is_layer_3 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3 else None
