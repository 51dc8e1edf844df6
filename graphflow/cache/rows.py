"""The row of an entry in the index, sealed, and the change that replaces it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Replaced", "EntryRow", "Stored"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One output: small ones lie in the index itself (`data`), large ones in a blob named by their content."""

    content: bytes
    size: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class EntryRow:
    recipe: bytes
    key: bytes | None
    type: str
    ui: str | None
    """JSON."""
    rebuilt: bool
    """The outputs are handles: not stored, made again by running the node."""
    seconds: float
    created: float
    origin: str
    """JSON of an Origin, see `origin_to_json`."""
    outputs: tuple[Stored, ...]
    brought: str | None = None
    """JSON, see `Brought`."""
    effect: str | None = None

    def seal(self) -> bytes:
        outputs = [(item.content, item.size) for item in self.outputs]
        fields = (
            self.recipe,
            self.key,
            self.type,
            self.ui,
            self.rebuilt,
            self.seconds,
            self.created,
            self.origin,
            self.brought,
            self.effect,
        )
        return blake2b(repr((fields, outputs)).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def blobs(self) -> list[bytes]:
        """The contents that lie in files."""
        return [item.content for item in self.outputs if item.data is None and item.size]


@dataclass(frozen=True, slots=True)
class Replaced:
    """The only result of a recipe, and of every other recipe of the same key, from now on."""

    recipe: bytes
    key: bytes | None
    contents: tuple[bytes | None, ...] | None
    """None: nothing is known any more."""
    ui: str | None
    stale: frozenset[bytes] = frozenset()
    """Recipes that are known to be wrong."""
