"""Text chunks of a PNG (tEXt, zTXt, iTXt), where ComfyUI keeps the workflow. PNG specification, section 11.3.4."""

from __future__ import annotations

import struct
import zlib

__all__ = ["read_text_chunks"]

MAX_TEXT = 64 << 20


def read_text_chunks(data: bytes) -> dict[str, str]:
    """Keyword -> text of all text chunks; damaged chunks are passed over."""
    found: dict[str, str] = {}
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        try:
            keyword, _, rest = body.partition(b"\0")
            if kind == b"tEXt":
                found[keyword.decode("latin-1")] = _decoded(rest)
            elif kind == b"zTXt":
                found[keyword.decode("latin-1")] = _decoded(_inflate(rest[1:]))
            elif kind == b"comf":  # ComfyUI's own, in animations
                found.setdefault(keyword.decode("latin-1"), _decoded(rest))
            elif kind == b"iTXt":
                packed, rest = rest[0], rest[2:]
                rest = rest.split(b"\0", 2)[2]
                found[keyword.decode("latin-1")] = (_inflate(rest) if packed else rest).decode("utf-8", "replace")
            elif kind == b"IEND":
                break
        except (zlib.error, IndexError):
            continue
    return found


def _decoded(text: bytes) -> str:
    """The specification says Latin-1, and many programs write UTF-8; what is valid UTF-8 is hardly ever anything
    else."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_TEXT)
