"""What the cache keeps of a node that has run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Brought", "Entry", "Origin", "origin_from_json", "origin_to_json"]

LONGEST_LITERAL = 2000


@dataclass(frozen=True, slots=True)
class Origin:
    """What a recipe was made from, so that a miss can be explained by what differs."""

    type: str
    version: str = ""
    literals: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)
    """Input name -> (recipe of the node it comes from, number of its output)."""
    outside: str | None = None
    environment: str | None = None
    node: str = ""
    """Id of the node in its workflow: of several earlier runs that are as similar, that of the same node explains best."""


class Brought(NamedTuple):
    """A node type that an expansion used, which the recipe of the node that expanded does not tell."""

    type: str
    version: str
    environment: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a node gave. `outputs` is None for handles of an earlier process: the node is run again, which costs
    nothing, where somebody needs them."""

    outputs: tuple[Any, ...] | None
    contents: tuple[bytes | None, ...]
    """Digest of each output; None where it cannot be stored."""
    ui: dict[str, Any] | None = None
    seconds: float = 0.0
    """What it took to compute."""
    created: float = 0.0
    """Unix time."""
    brought: tuple[Brought, ...] = ()
    """What an expansion used: where one of them is another now, the entry is no hit."""
    effect: str | None = None
    """In what state the node has left the files that it wrote, see `NodeType.effect`: where it is another now, the entry is
    no hit."""
    loose: bool = False
    """A part of the outputs cannot be copied, so a node could change it: they are for the run that made them, alone."""


def origin_to_json(origin: Origin) -> str:
    """Compact JSON; a literal that is long, or no JSON, is left out: it explains nothing that fits a line."""
    literals = {}
    for name, value in origin.literals.items():
        try:
            if len(json.dumps(value)) <= LONGEST_LITERAL:
                literals[name] = value
        except (TypeError, ValueError, RecursionError):
            continue
    links = {name: [recipe.hex(), slot] for name, (recipe, slot) in origin.links.items()}
    return json.dumps(
        [origin.version, literals, links, origin.outside, origin.environment, origin.node], separators=(",", ":")
    )


def origin_from_json(kind: str, text: str) -> Origin:
    """Raises ValueError where the text is none."""
    version, literals, links, outside, environment, node = json.loads(text)
    known = {name: (bytes.fromhex(recipe), slot) for name, (recipe, slot) in links.items()}
    return Origin(kind, version, literals, known, outside, environment, node)
