"""The entry that the cache keeps of a node that has run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from ..document.walks import reached
from ..values.canonical import canonical

__all__ = [
    "Brought",
    "CacheEntry",
    "LongLiteral",
    "Origin",
    "literal_digest",
    "origin_from_json",
    "origin_to_json",
    "with_all_behind",
]

LONGEST_LITERAL = 2000


@dataclass(frozen=True, slots=True)
class LongLiteral:
    """A literal that is too long to be written down, or changes when it is: only whether two of them differ is
    known."""

    digest: str


def literal_digest(value: Any) -> str:
    """Equal for literals that count as the same. Raises TypeError for a value that has no canonical form."""
    return value.digest if isinstance(value, LongLiteral) else blake2b(canonical(value), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """The parts of a recipe, so that a miss can be explained by the part that differs."""

    type: str
    version: str = ""
    literals: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)
    """Input name -> (recipe of the node it comes from, number of its output)."""
    outside: str | None = None
    environment: str | None = None
    node: str = ""
    """Id of the node in its workflow: of several earlier runs that are as similar, that of the same node explains
    best."""
    reads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The parts of `outside`, where they are known one by one: see `NodeType.reads`."""


class Brought(NamedTuple):
    """A node type that an expansion used, which is not in the recipe of the node that expanded."""

    type: str
    version: str
    environment: str | None


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The result of a node. `outputs` is None for handles of an earlier process: the node is run again, which costs
    nothing, where somebody needs them."""

    outputs: tuple[Any, ...] | None
    contents: tuple[bytes | None, ...]
    """Digest of each output; None where it cannot be stored."""
    ui: dict[str, Any] | None = None
    seconds: float = 0.0
    """Seconds of computing."""
    created: float = 0.0
    """Unix time."""
    brought: tuple[Brought, ...] = ()
    """The node types that an expansion used: if one of them has changed since, the entry is not a hit."""
    effect: str | None = None
    """In what state the node has left the files that it wrote, see `NodeType.effect`: where it has changed since, the
    entry is not a hit."""
    loose: bool = False
    """A part of the outputs cannot be copied, so a node could change it: they are for the run that made them, alone."""


def with_all_behind(changed: set[bytes], users: Mapping[bytes, Iterable[bytes]]) -> set[bytes]:
    """These recipes, and all that stand on them; `users` are those that are linked to a recipe."""
    return reached(changed, lambda recipe: users.get(recipe, ()))


def origin_to_json(origin: Origin) -> str:
    """Compact JSON; of a literal that is long, or not the same when it is read again, the digest."""
    literals, digests = {}, {}
    for name, value in origin.literals.items():
        try:
            if _survives_json(value):
                literals[name] = value
            else:
                digests[name] = literal_digest(value)
        except (TypeError, ValueError, RecursionError):
            continue
    links = {name: [recipe.hex(), slot] for name, (recipe, slot) in origin.links.items()}
    body = [origin.version, literals, links, origin.outside, origin.environment, origin.node, digests]
    if origin.reads:
        body.append({name: dict(parts) for name, parts in origin.reads.items()})
    return json.dumps(body, separators=(",", ":"))


def _survives_json(value: Any) -> bool:
    if isinstance(value, LongLiteral):
        return False
    text = json.dumps(value)
    return len(text) <= LONGEST_LITERAL and (
        not isinstance(value, (list, tuple, dict)) or canonical(json.loads(text)) == canonical(value)
    )


def origin_from_json(kind: str, text: str) -> Origin:
    """Raises ValueError where the text is none."""
    version, literals, links, outside, environment, node, *more = json.loads(text)
    digests, reads = [*more, {}, {}][:2]
    long = {name: LongLiteral(digest) for name, digest in digests.items()}
    known = {name: (bytes.fromhex(recipe), slot) for name, (recipe, slot) in links.items()}
    return Origin(kind, version, {**literals, **long}, known, outside, environment, node, reads)
