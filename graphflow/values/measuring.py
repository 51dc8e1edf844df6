"""The bytes that a value holds in memory."""

from __future__ import annotations

import sys
from typing import Any

from . import objects
from .codecs import codec_of
from .kinds import ATOMS, Handle, Items
from .sharing import is_leaf

__all__ = ["measure", "size_of"]


def measure(value: Any) -> tuple[int, dict[int, int]]:
    """(bytes of the structure, identity -> bytes of each memory that the leaves lie in).

    Memory that several values share has one identity, so that it can be counted once.
    """
    memories: dict[int, int] = {}
    return _measure(value, memories), memories


def size_of(value: Any) -> int:
    """Bytes held by a value; memory that is in it twice counts once."""
    structure, memories = measure(value)
    return structure + sum(memories.values())


def _measure(value: Any, memories: dict[int, int]) -> int:
    kind = type(value)
    if kind in ATOMS:
        return sys.getsizeof(value)
    if kind in (list, tuple, Items):
        return 64 + sum([_measure(item, memories) for item in value])
    if kind is dict:
        return 64 + sum([_measure(key, memories) + _measure(item, memories) for key, item in value.items()])
    if isinstance(value, Handle):
        return 64
    codec = codec_of(value)
    if codec is not None:
        memory, held = codec.storage(value)
        memories[memory] = held
        return 64
    size = 0
    for part in objects.parts(value, is_leaf):
        size += _measure(part, memories) if is_leaf(part) else objects.shallow_bytes(part)
    return size
