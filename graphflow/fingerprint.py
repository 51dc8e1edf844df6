"""What makes two computations the same: the recipe of each node, in one linear pass.

A recipe is a hash of the node type, its version, its literals in canonical and type-tagged form, the recipes of what
it is linked to, and the outside state it reads. Ids, titles, positions and the order of keys do not count.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from .settings import Settings
from .validate import Bound

__all__ = ["canonical", "recipes"]


def canonical(value: Any) -> bytes:
    """Bytes that differ whenever the values differ, in type, too: 1, 1.0, True and "1" are four values."""
    kind = type(value)
    if kind is int:
        return b"i" + str(value).encode() + b";"
    if kind is str:
        data: bytes = value.encode("utf-8", "surrogatepass")
        return b"s%d:" % len(data) + data
    if kind is float:
        return b"f" + struct.pack(">d", value)
    if kind is bool:
        return b"T" if value else b"F"
    if value is None:
        return b"N"
    if kind in (list, tuple):
        return b"l%d:" % len(value) + b"".join(canonical(item) for item in value)
    if kind is dict:
        pairs = sorted((canonical(key), canonical(item)) for key, item in value.items())
        return b"d%d:" % len(pairs) + b"".join(key + item for key, item in pairs)
    raise TypeError(f"{kind.__name__} has no canonical form")


def recipes(order: Mapping[str, Bound], settings: Settings) -> dict[str, bytes]:
    """Node id -> 16 byte recipe, for bound nodes in topological order."""
    found: dict[str, bytes] = {}
    heads: dict[str, bytes] = {}
    for node_id, node in order.items():
        kind = node.type
        head = heads.get(kind.name)
        if head is None:
            head = heads[kind.name] = canonical(kind.name) + canonical(kind.version)
        parts = [head]
        literals = node.literals
        for name in sorted(literals):
            parts.append(canonical(name) + canonical(literals[name]))
        links = node.links
        for name in sorted(links):
            link = links[name]
            parts.append(b"@%s%d;" % (canonical(name), link.slot) + found[link.node])
        if kind.outside is not None:
            parts.append(b"o" + canonical(kind.outside(settings, **literals)))
        if not kind.deterministic:
            parts.append(b"r" + secrets.token_bytes(16))
        found[node_id] = blake2b(b"".join(parts), digest_size=16).digest()
    return found
