"""The interface of a cache store: how entries are found in it, and how they are written to it.

Memory, a folder and a level that machines share are three stores; `tiers` makes one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..values import Encoded
from .entry import Brought, CacheEntry, Origin, origin_to_json
from .leases import Lease
from .rows import EntryRow, Stored

__all__ = ["Alias", "Batch", "Change", "Kept", "Put", "Replace", "Store", "Written", "entry_of", "json_of", "row_of"]

INLINE = 4096
"""Bytes up to which an output lies in the row itself."""
WORTH_A_RECORD = 0.05
"""Seconds of computing from which a small entry is written into a record, too."""


class Kept(NamedTuple):
    """An entry, as a store returns it."""

    entry: CacheEntry
    recipe: bytes
    key: bytes | None
    origin: Origin | None
    encoded: tuple[Encoded, ...] | None = None
    """The stored form of its outputs, where the store has just read it from far away."""


class Put(NamedTuple):
    """Keep this entry."""

    recipe: bytes
    key: bytes | None
    entry: CacheEntry
    origin: Origin | None
    encoded: tuple[Encoded, ...] | None = None
    """The stored form of its outputs. None: only memory can keep it."""
    ui: str | None = None
    """`entry.ui` as JSON."""
    lease: Lease | None = None
    """Given back when other processes can find the entry."""
    states: tuple[bytes, ...] = ()
    """Names of the checkpoints that are of no use once the entry is on the disk."""
    is_shared: bool = False
    """It comes from the shared level."""


class Alias(NamedTuple):
    """Keep the entry that is known under this key under one more recipe."""

    recipe: bytes
    key: bytes
    entry: CacheEntry
    origin: Origin


class Replace(NamedTuple):
    """A refreshed run has computed this recipe anew: forget every entry of the recipe, or of the key, that differs, and
    every entry that stands on one whose outputs were others. Without an entry, forget all of them."""

    recipe: bytes
    key: bytes | None
    entry: CacheEntry | None
    stale: frozenset[bytes] = frozenset()
    """Recipes that are known to be wrong."""


Change: TypeAlias = Put | Alias | Replace


class Batch(NamedTuple):
    """Changes, to be made in their order."""

    changes: Sequence[Change]
    used: Mapping[bytes, float] = {}
    """Recipes that were used, and when (Unix time)."""
    gone: frozenset[bytes] = frozenset()
    """Recipes that the stores before this one have forgotten because of these changes."""


class Written(NamedTuple):
    """The outcome of a batch."""

    kept: bool = True
    """Whether the entries can be found in the store now."""
    gone: frozenset[bytes] = frozenset()
    """Recipes that it has forgotten because of the changes."""
    lost: tuple[bytes, ...] = ()
    """Recipes that were used, but that it does not know."""


class Store(Protocol):
    """Where entries are kept. Thread-safe. No method raises: a store that cannot answer reports a Problem once, and
    has nothing."""

    @property
    def can_keep(self) -> bool:
        """Whether what is written now is kept."""

    def get(self, recipe: bytes) -> Kept | None:
        """The entry of a recipe."""

    def find(self, key: bytes) -> Kept | None:
        """The newest entry that had the same node, literals and input contents."""

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> CacheEntry | None:
        """As `get`, or `find`, without reading the outputs and without counting as use."""

    def fetch(self, recipes: Sequence[bytes]) -> None:
        """A run is about to ask for these: a store that is far away looks for all of them at once."""

    def write(self, batch: Batch) -> Written:
        """Make changes."""

    def origins(self, kind: str) -> Iterable[tuple[Origin, float]]:
        """The origins of earlier entries of a node type, and when they were made (Unix time), newest first."""


# -- the stored form of an entry, the same in a folder and on a shared level ----------------------------------------


def row_of(put: Put) -> EntryRow:
    """The row of an entry that has a stored form. Outputs up to INLINE bytes lie in it, the others in blobs."""
    assert put.encoded is not None and put.origin is not None
    entry = put.entry
    rebuilt = any(item.data is None for item in put.encoded)
    outputs = []
    for item in put.encoded:
        size = 0 if rebuilt else len(item.data or b"")
        outputs.append(Stored(item.content, size, item.data if not rebuilt and size <= INLINE else None))
    return EntryRow(
        recipe=put.recipe,
        key=put.key,
        type=put.origin.type,
        ui=put.ui,
        rebuilt=rebuilt,
        seconds=entry.seconds,
        created=entry.created,
        origin=origin_to_json(put.origin),
        outputs=tuple(outputs),
        brought=json.dumps(entry.brought) if entry.brought else None,
        effect=entry.effect,
    )


def entry_of(row: EntryRow, outputs: tuple[object, ...] | None) -> CacheEntry:
    ui = json.loads(row.ui) if row.ui is not None else None
    brought = tuple(Brought(*part) for part in json.loads(row.brought)) if row.brought is not None else ()
    contents = tuple(item.content for item in row.outputs)
    return CacheEntry(outputs, contents, ui, row.seconds, row.created, brought, row.effect)


def json_of(ui: dict[str, Any] | None) -> str | None:
    """Raises TypeError, ValueError or RecursionError where it has no form in JSON."""
    return json.dumps(ui) if ui is not None else None
