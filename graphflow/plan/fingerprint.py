"""Two computations are the same if their fingerprints are: fingerprints of all nodes, in one linear pass.

The *recipe* is a hash of the node type, its version, its literals in canonical and type-tagged form, the outside state
it reads, the environment that changes its numbers, and the recipes of what it is linked to: known before anything runs.
The *key* is the same with the contents of the inputs in place of their recipes: known when the inputs are. Two recipes
with one key have one result, which is how an edit that changes nothing downstream is noticed. Ids, titles, positions
and the order of keys count in neither.
"""

from __future__ import annotations

import secrets
from collections import ChainMap
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from ..cache import Brought, CacheEntry
from ..check.validate import Bound
from ..document.workflow import Link
from ..foreign import standins
from ..nodetype.node import ALWAYS, NodeType
from ..nodetype.reads import Reads, digest_of, shortened
from ..settings import Settings
from ..values.canonical import canonical

__all__ = ["Fingerprint", "answered", "content_key", "environment_of", "fingerprints", "recipe_of", "why_not"]


class Fingerprint(NamedTuple):
    """A tuple: a plan makes one for each of its nodes, and a dataclass takes three times as long to make."""

    recipe: bytes
    """16 bytes."""
    own: bytes
    """All of the recipe but the links."""
    version: str
    outside: str | None = None
    environment: str | None = None
    """See `environment_of`."""
    is_new: bool = False
    """The node gives something new every time: its own part of the recipe will never be seen again."""
    is_volatile: bool = False
    """So will the recipe: the node is new every time, or stands on one that is. Its result is known by its key
    alone."""
    asks_late: bool = False
    """Linked inputs decide what it reads outside; until they are there and `answered` took the answer in, nothing of it
    is known. It is not in the recipe, so that the node and what stands on it are known by their keys alone."""
    is_open: bool = False
    """The node may expand, or stands on one that may: the recipe does not hold what the expansion used. Its result is
    known by its key, and by its recipe only in this process, where no code changes."""
    reads: Reads | None = None
    """The parts of `outside`, where they are known one by one: see `NodeType.reads`."""


def fingerprints(
    order: Mapping[str, Bound], settings: Settings, known: Mapping[str, Fingerprint] | None = None
) -> dict[str, Fingerprint]:
    """Node id -> fingerprint, for bound nodes in topological order; `known` are those of other nodes they link to.

    Raises OSError where a file cannot be read.
    """
    found: dict[str, Fingerprint] = {}
    altered = standins.altered()
    all_known: Mapping[str, Fingerprint] = ChainMap(found, known) if known else found  # type: ignore[arg-type]
    heads: dict[int, tuple[bytes, str, str | None]] = {}
    names: dict[str, bytes] = {}
    outsides: dict[bytes, tuple[str, Reads | None]] = {}
    for node_id, node in order.items():
        kind = node.type
        head = heads.get(id(kind))
        if head is None:
            environment = environment_of(kind, settings, altered)
            start = canonical(kind.name) + canonical(kind.version) + canonical(environment)
            head = heads[id(kind)] = (start, kind.version, environment)
        is_new = not kind.deterministic
        is_open = kind.expands
        parts = [head[0]]
        literals = node.literals
        for name in sorted(literals):
            key = names.get(name)
            if key is None:
                key = names[name] = canonical(name)
            try:
                parts.append(key + canonical(literals[name]))
            except TypeError:  # an expansion may hold values that are like no other
                is_new = True
        outside, reads = None, None
        asks_late = not kind.asks_about.isdisjoint(node.links) if kind.outside is not None else False
        if kind.outside is not None and not asks_late:
            same = b"".join(parts)
            if same not in outsides:
                outsides[same] = _seen(kind, settings, literals)
            outside, reads = outsides[same]
            parts.append(b"o" + canonical(outside))
            is_new = is_new or outside == ALWAYS
        if kind.by_id:
            parts.append(b"n" + canonical(node_id))
        if is_new:
            parts.append(b"r" + secrets.token_bytes(16))
        own = b"".join(parts)
        is_volatile = is_new or asks_late
        for link in node.links.values():
            source = all_known[link.node]
            is_volatile, is_open = is_volatile or source.is_volatile, is_open or source.is_open
        recipe = recipe_of(own, node.links, lambda source: all_known[source].recipe)
        found[node_id] = Fingerprint(
            recipe, own, head[1], outside, head[2], is_new, is_volatile, asks_late, is_open, reads
        )
    return found


def _seen(kind: NodeType, settings: Settings, literals: Mapping[str, Any]) -> tuple[str, Reads | None]:
    """The answer of `outside`, and its parts; each thing is read once."""
    if kind.reads is not None:
        found = kind.reads(settings, **literals)
        return digest_of(found), shortened(found)
    assert kind.outside is not None
    return kind.outside(settings, **literals), None


def environment_of(kind: NodeType, settings: Settings, altered: str) -> str | None:
    """What changes the numbers of a node type besides its inputs; `altered` is the answer of `standins.altered`, which
    counts for all of them."""
    stated = kind.environment(settings) if kind.environment is not None else None
    return "; ".join(filter(None, (stated, altered))) or stated


def answered(mine: Fingerprint, outside: str, reads: Reads | None) -> Fingerprint:
    """With the answer of the node's `outside` to the inputs, and its parts."""
    own = mine.own + b"o" + canonical(outside)
    return mine._replace(
        own=own, outside=outside, is_new=mine.is_new or outside == ALWAYS, asks_late=False, reads=reads
    )


def content_key(print_: Fingerprint, node: Bound, content: Callable[[str, int], bytes | None]) -> bytes | None:
    """The key of a node whose inputs are there; None where the content of one of them is not known, or the node gives
    something new every time."""
    if print_.is_new or print_.asks_late:
        return None
    hasher = blake2b(print_.own, digest_size=16, person=b"contents")
    links = node.links
    for name in sorted(links) if len(links) > 1 else links:
        link = links[name]
        found = content(link.node, link.slot)
        if found is None:
            return None
        hasher.update(b"@" + canonical(name) + found)
    return hasher.digest()


def recipe_of(own: bytes, links: Mapping[str, Link], of: Callable[[str], bytes]) -> bytes:
    """The recipe of a node, from `Fingerprint.own` and the recipes of what it is linked to."""
    hasher = blake2b(own, digest_size=16, person=b"recipe")
    for name in sorted(links) if len(links) > 1 else links:
        link = links[name]
        hasher.update(b"@%s%d;" % (canonical(name), link.slot) + of(link.node))
    return hasher.digest()


def why_not(entry: CacheEntry, kind: NodeType, types: Mapping[str, NodeType], settings: Settings) -> str | None:
    """The reason for which a kept entry is not a hit although its recipe or its key is asked for; None: it is a hit."""
    for part in entry.brought:
        if not _is_current(part, types, settings):
            return f"{part.type}, which it expanded into, has changed"
    if kind.effect is not None and (entry.effect is None or kind.effect(settings, entry.ui) != entry.effect):
        return "a file that it wrote is gone, or has changed"
    return None


def _is_current(part: Brought, types: Mapping[str, NodeType], settings: Settings) -> bool:
    """Whether what an earlier expansion used would be the same today."""
    kind = types.get(part.type)
    if kind is None or kind.version != part.version:
        return False
    return environment_of(kind, settings, standins.altered()) == part.environment
