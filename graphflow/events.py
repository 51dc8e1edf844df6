"""What a run tells the world, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Event", "NodeCached", "NodeDone", "NodeError", "NodeStarted", "Progress", "RunDone", "RunStarted"]


@dataclass(frozen=True, slots=True)
class Event:
    def to_json(self) -> dict[str, Any]:
        """One JSON object; a preview picture is left out."""
        body = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "preview"}
        return {"event": type(self).__name__, **body}


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    nodes: tuple[str, ...]
    cached: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    node: str


@dataclass(frozen=True, slots=True)
class Progress(Event):
    node: str
    step: int
    total: int
    preview: Callable[[], bytes] | None = None
    """Makes a small JPEG when called."""


@dataclass(frozen=True, slots=True)
class NodeDone(Event):
    node: str
    seconds: float
    ui: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NodeCached(Event):
    node: str
    ui: dict[str, Any] | None = None
    reason: str = "stored"
    """`stored`, `same content` (its inputs changed in name only) or `shared` (another run has just computed it)."""


@dataclass(frozen=True, slots=True)
class NodeError(Event):
    node: str
    problem: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunDone(Event):
    status: str
    """`done`, `failed` or `cancelled`."""
    seconds: float
