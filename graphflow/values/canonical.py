"""Values as bytes that differ whenever the values differ."""

from __future__ import annotations

import struct
from typing import Any

from .stored import encode

__all__ = ["canonical"]


def canonical(value: Any) -> bytes:
    """Bytes that differ whenever the values differ, in type, too: 1, 1.0, True and "1" are four values.

    Lists and tuples are one kind; the order of a mapping's keys does not count. Raises TypeError for a value that has
    no such form (an open file), RecursionError for one that is nested about a thousand times.
    """
    kind = type(value)
    if kind is int:
        return b"i%x;" % value
    if kind is str:
        data: bytes = value.encode("utf-8", "surrogatepass")
        return b"s%d:" % len(data) + data
    if kind is float:
        number: bytes = struct.pack(">d", value)
        return b"f" + number
    if kind is bool:
        return b"T" if value else b"F"
    if value is None:
        return b"N"
    if kind is list or kind is tuple:
        return b"l%d:" % len(value) + b"".join(map(canonical, value))
    if kind is dict:
        pairs = sorted([(canonical(key), canonical(item)) for key, item in value.items()])
        return b"d%d:" % len(pairs) + b"".join([key + item for key, item in pairs])
    if kind is bytes:
        raw: bytes = value
        return b"b%d:" % len(raw) + raw
    return b"x" + encode(value).content
