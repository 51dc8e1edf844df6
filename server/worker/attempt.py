"""One attempt at a prompt, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Attempt", "Crowded", "Died", "Finished", "Lost", "Outcome", "Released", "Unfit", "WorkerStatus"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a prompt."""

    prompt_id: str
    epoch: int
    targets: tuple[str, ...]
    workflow_json: str
    extra_json: str
    client: str = ""
    """Whose turn on the device it takes."""
    passes: int = 1
    """How many prompts share its passes."""
    compare: int = 1
    """`Settings.compare`."""
    likeness: str = ""
    """Equal for prompts that may share passes."""

    @property
    def key(self) -> tuple[str, int]:
        return self.prompt_id, self.epoch


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over; `type` is one of records.TERMINAL."""

    type: str
    data: dict[str, Any]
    stats: dict[str, Any]
    trace: str = ""
    """When what ran, in JSON; see `tracing.trace`."""


@dataclass(frozen=True, slots=True)
class Released:
    """The worker was asked to stop, and the prompt can go on from where it is."""


@dataclass(frozen=True, slots=True)
class Crowded:
    """It ran short of memory or broke the device, beside other prompts. It is to run alone, in passes of its own."""


@dataclass(frozen=True, slots=True)
class Died:
    """The process is dead; `reason` is the cause."""

    reason: str
    suspects: int = 1
    """Prompts that it had. Of several, nobody knows which one has killed it."""
    culprit: str | None = None
    """The prompt that it was killed for."""
    at: tuple[str, str] | None = None
    """Where it was, if its worker knows: the node, and the node of the workflow."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker is on another machine, and out of reach; what it still does counts no more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """This worker cannot run it, as it lacks something or has something else under the same name; others may."""

    reason: str


Outcome = Finished | Released | Crowded | Died | Lost | Unfit


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    state: str
    """`starting`, `idle`, `running` or `stopped`."""
    pid: int | None
    starts: int
    deaths: int
    rss: int
    """Bytes of memory, as of a moment ago."""
    devices: tuple[dict[str, Any], ...] = ()
    """Accelerators in use: `{name, type, index, vram_total, vram_free}`."""
    models: tuple[dict[str, Any], ...] = ()
    """Parts of models in memory: `{name, part, format, bytes, device}`."""
    problems: tuple[dict[str, Any], ...] = ()
    """Node packs that did not load."""
    name: str = ""
    prompts: tuple[str, ...] = ()
    """Ids of those that it has."""
    silent: float = 0.0
    """Seconds since its last sign of life, about."""
