"""What the cache keeps of a node that has run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Entry", "Origin"]


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
