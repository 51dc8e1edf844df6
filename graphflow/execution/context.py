"""The context of a run: what its engine and its caller give it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Any, NamedTuple, Protocol

from ..cache import Cache, CacheEntry
from ..check.validate import Bound
from ..document.workflow import Workflow
from ..events import Event
from ..nodetype.node import NodeType
from ..nodetype.numbering import Numbering
from ..plan.fingerprint import Fingerprint
from ..settings import Settings
from .admission import Admission
from .imports import ImportClock

__all__ = ["OtherEngine", "Piece", "RunContext", "Supply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The context of one run, the same for all of its nodes."""

    cache: Cache
    settings: Settings
    types: Mapping[str, NodeType]
    """The node types that there are: those of the workflow, and those that expansions may bring."""
    admission: Admission
    workers: int
    """Threads for nodes that compute."""
    emit: Callable[[Event], None]
    cancel: Flag
    refresh: bool = False
    """Compute everything, and replace what the cache holds."""
    claims: Path | None = None
    """Where a named run notes the files that it has written."""
    extra_pnginfo: Mapping[str, Any] | None = None
    """Saved images carry it besides the workflow."""
    numbering: Numbering | None = None
    """The numbers of the files that are written, if they belong to variants."""
    supply: Supply | None = None
    """Where the nodes come from, if not all at once."""
    other: OtherEngine | None = None
    """Computes nodes that need a device."""
    imports: ImportClock = field(default_factory=ImportClock)
    """The time that importing libraries takes; it runs while nodes run."""


class OtherEngine(Protocol):
    """Runs workflows elsewhere, such as `graphflow.Remote`."""

    def run(
        self,
        workflow: Workflow,
        *,
        targets: tuple[str, ...],
        on_event: Callable[[Event], None],
        cancel: Flag,
    ) -> object: ...


class Piece(NamedTuple):
    """A part of a plan: nodes in topological order with all that they stand on, and which of them are wanted."""

    order: Mapping[str, Bound]
    prints: Mapping[str, Fingerprint]
    wanted: Iterable[str]


class Supply(Protocol):
    """A plan that a run takes piece by piece, so that it works on one part of many alike variants at a time."""

    uses: dict[str, int]
    """How many nodes that have not been taken yet are linked to a node: until then it is not forgotten."""

    def next(self) -> Piece | None:
        """The next piece if it is time for one. Asked after each node; must give one if none is under way."""

    def done(self, node_id: str, entry: CacheEntry) -> None:
        """A wanted node has been computed, or was known."""

    def document(self, node_id: str) -> Callable[[], dict[str, Any]]:
        """Makes the JSON of the workflow that the node belongs to."""

    def name(self, node_id: str) -> str:
        """The id of the node in the workflow that it comes from."""
