"""JSON texts that may be large, made a piece at a time: the encoder lets no other thread run, the one of the event loop
included, for as long as it is at work on one value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

__all__ = ["digest", "dump"]

PIECE = 2000
"""Values, so that a piece takes less than a millisecond."""
_Container = (dict, list, tuple)


def dump(value: Any) -> str:
    """Compact JSON."""
    return "".join(_pieces(value, _encode))


def digest(value: Any) -> bytes:
    """SHA-256 of the value as JSON, whatever the order of its keys."""
    found = hashlib.sha256()
    for piece in _pieces(value, _encode_sorted, sort=True):
        found.update(piece.encode())
    return found.digest()


_encode = json.JSONEncoder(separators=(",", ":")).encode
_encode_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def _pieces(value: Any, encode: Any, sort: bool = False) -> Iterator[str]:
    if _is_small(value):
        yield encode(value)
    elif isinstance(value, dict):
        before = "{"
        for key in sorted(value) if sort else value:
            yield before + encode({key: 0})[1:-2]  # `"key":`
            yield from _pieces(value[key], encode, sort)
            before = ","
        yield "}"
    else:
        before = "["
        for item in value:
            yield before
            yield from _pieces(item, encode, sort)
            before = ","
        yield "]"


def _is_small(value: Any) -> bool:
    left, open_ = PIECE, [value]
    while open_:
        item = open_.pop()
        if isinstance(item, _Container):
            left -= len(item)
            if left < 0:
                return False
            open_ += [
                part for part in (item.values() if isinstance(item, dict) else item) if isinstance(part, _Container)
            ]
    return True
