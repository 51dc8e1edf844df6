"""What makes two computations the same: fingerprints of all nodes, in one linear pass.

The *recipe* is a hash of the node type, its version, its literals in canonical and type-tagged form, the outside state
it reads, the environment that changes its numbers, and the recipes of what it is linked to: known before anything runs.
The *key* is the same with the contents of the inputs in place of their recipes: known when the inputs are. Two recipes
with one key have one result, which is how an edit that changes nothing downstream is noticed. Ids, titles, positions
and the order of keys count in neither.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from .node import ALWAYS
from .settings import Settings
from .validate import Bound
from .values import Unstorable, encode
from .workflow import Link

__all__ = ["Fingerprint", "canonical", "content_key", "fingerprints", "recipe_of"]


def canonical(value: Any) -> bytes:
    """Bytes that differ whenever the values differ, in type, too: 1, 1.0, True and "1" are four values."""
    kind = type(value)
    if kind is int:
        return b"i%x;" % value
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
        return b"l%d:" % len(value) + b"".join([canonical(item) for item in value])
    if kind is dict:
        pairs = sorted((canonical(key), canonical(item)) for key, item in value.items())
        return b"d%d:" % len(pairs) + b"".join([key + item for key, item in pairs])
    raise TypeError(f"{kind.__name__} has no canonical form")


def _literal(value: Any) -> bytes:
    """Of a literal; an expansion may hold values that only their content names, or that are like no other."""
    try:
        return canonical(value)
    except TypeError:
        try:
            return b"c" + encode(value).content
        except Unstorable:
            return b"u" + secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    recipe: bytes
    """16 bytes."""
    own: bytes
    """All of the recipe but the links."""
    version: str
    outside: str | None = None
    environment: str | None = None


def fingerprints(
    order: Mapping[str, Bound], settings: Settings, known: Mapping[str, Fingerprint] | None = None
) -> dict[str, Fingerprint]:
    """Node id -> fingerprint, for bound nodes in topological order; `known` are those of other nodes they link to.

    Raises OSError where a file cannot be read.
    """
    found: dict[str, Fingerprint] = {}
    heads: dict[int, tuple[bytes, str, str | None]] = {}
    names: dict[str, bytes] = {}
    recipes: dict[str, bytes] = {}

    def known_recipe(node_id: str) -> bytes:
        recipe = recipes.get(node_id)
        return recipe if recipe is not None or known is None else known[node_id].recipe  # type: ignore[return-value]

    for node_id, node in order.items():
        kind = node.type
        head = heads.get(id(kind))
        if head is None:
            environment = kind.environment(settings) if kind.environment is not None else None
            start = canonical(kind.name) + canonical(kind.version) + canonical(environment)
            head = heads[id(kind)] = (start, kind.version, environment)
        parts = [head[0]]
        literals = node.literals
        for name in sorted(literals):
            key = names.get(name)
            if key is None:
                key = names[name] = canonical(name)
            parts.append(key + _literal(literals[name]))
        outside = None
        if kind.outside is not None:
            outside = kind.outside(settings, **literals)
            parts.append(b"o" + canonical(outside))
        if kind.by_id:
            parts.append(b"n" + canonical(node_id))
        if not kind.deterministic or outside == ALWAYS:
            parts.append(b"r" + secrets.token_bytes(16))
        own = b"".join(parts)
        recipe = recipes[node_id] = recipe_of(own, node.links, known_recipe)
        found[node_id] = Fingerprint(recipe, own, head[1], outside, head[2])
    return found


def content_key(print_: Fingerprint, node: Bound, content: Callable[[str, int], bytes | None]) -> bytes | None:
    """The key of a node whose inputs are there; None where the content of one of them is not known."""
    contents = {}
    for link in node.links.values():
        found = content(link.node, link.slot)
        if found is None:
            return None
        contents[link.node, link.slot] = found
    hasher = blake2b(print_.own, digest_size=16, person=b"contents")
    for name in sorted(node.links):
        link = node.links[name]
        hasher.update(b"@" + canonical(name) + contents[link.node, link.slot])
    return hasher.digest()


def recipe_of(own: bytes, links: Mapping[str, Link], of: Callable[[str], bytes]) -> bytes:
    """The recipe of a node, from `Fingerprint.own` and the recipes of what it is linked to."""
    hasher = blake2b(own, digest_size=16, person=b"recipe")
    for name in sorted(links) if len(links) > 1 else links:
        link = links[name]
        hasher.update(b"@%s%d;" % (canonical(name), link.slot) + of(link.node))
    return hasher.digest()
