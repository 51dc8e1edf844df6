"""The events of a run, in the order in which they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = [
    "AppliedPatch",
    "Event",
    "ModelEvent",
    "NodeAnew",
    "NodeBlocked",
    "NodeCached",
    "NodeDone",
    "NodeError",
    "NodeMemory",
    "NodeStarted",
    "PassRecord",
    "PassesMade",
    "Picture",
    "Progress",
    "Reading",
    "RunDone",
    "RunStarted",
    "Text",
]


@dataclass(frozen=True, slots=True)
class Event:
    def to_json(self) -> dict[str, Any]:
        """One JSON object; images are left out."""
        body = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("preview", "make")}
        if body.get("display", "") is None:
            del body["display"]
        return {"event": type(self).__name__, **body}


@dataclass(frozen=True, slots=True)
class Reading(Event):
    """A large file is read, to know what it holds: before a run, and only if it was not read before."""

    file: str
    done: int
    total: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    nodes: tuple[str, ...]
    cached: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    node: str
    display: str | None = None
    """The node of the workflow that this one was made by, for nodes that a node expanded into."""


@dataclass(frozen=True, slots=True)
class Progress(Event):
    node: str
    step: int
    total: int
    preview: Callable[[], bytes] | None = None
    """Makes a small JPEG when called."""
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Picture(Event):
    """An image that a node shows and that is not in a file."""

    node: str
    make: Callable[[], bytes]
    """Makes the file when called."""
    type: str = "image/png"
    is_result: bool = True
    """It is what the node was run for; else a look at its work, which may be left out."""
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Text(Event):
    """A line about what a node is doing; the newest counts."""

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class NodeDone(Event):
    node: str
    seconds: float
    """Of its own work."""
    ui: dict[str, Any] | None = None
    display: str | None = None
    loading: float = 0.0
    """Seconds in which its device loaded models for it."""
    importing: float = 0.0
    """Seconds in which the process imported libraries while it ran."""


@dataclass(frozen=True, slots=True)
class NodeAnew(Event):
    """There was too little memory for the passes that a sampler shares: it begins anew, in passes of its own size. Its
    result is cached as that of a run alone."""

    node: str
    problem: str
    """What memory was too short for."""
    display: str | None = None


@dataclass(frozen=True, slots=True)
class NodeMemory(Event):
    """The main memory that the call of a node needed, of nodes that compute on a device."""

    node: str
    peak: int
    """Bytes that the process held at most during the call, beyond those that it held before."""


@dataclass(frozen=True, slots=True)
class NodeBlocked(Event):
    """The node was not called: what it needs was withheld on purpose."""

    node: str
    display: str | None = None


@dataclass(frozen=True, slots=True)
class NodeCached(Event):
    node: str
    ui: dict[str, Any] | None = None
    reason: str = "stored"
    """`stored`, `same content` (its inputs changed in name only) or `shared` (another run has just computed it)."""
    display: str | None = None


@dataclass(frozen=True, slots=True)
class NodeError(Event):
    node: str
    problem: dict[str, Any]
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Message(Event):
    """A message of a node to whoever listens, of a type of its own."""

    node: str
    type: str
    data: Any


@dataclass(frozen=True, slots=True)
class AppliedPatch:
    """A file that changes a part of a model: a LoRA or one of its relatives."""

    file: str
    strength: float
    form: str
    """`merged` into the weights, or by `rows`, beside them."""
    here: int
    """Modules of the file that change this part."""
    matched: int
    """Modules that fit the model, in all its parts."""
    modules: int
    """Modules of the file."""


@dataclass(frozen=True, slots=True)
class ModelEvent(Event):
    """A device loaded a part of a model, used one again that it held, dropped one, or began to page one."""

    file: str
    part: str
    """`denoiser`, `text.l`, `vae` ..."""
    format: str
    """`float32`, `bfloat16` ..."""
    bytes: int
    action: str
    """`loaded`, `reused`, `dropped`, `paged`."""
    device: str
    seconds: float = 0.0
    patches: tuple[AppliedPatch, ...] = ()
    """The LoRA files on it, and how much of each fits."""

    def to_json(self) -> dict[str, Any]:
        return {**Event.to_json(self), "patches": [asdict(patch) for patch in self.patches]}


@dataclass(frozen=True, slots=True)
class PassRecord:
    """A forward pass of a device with rows of a sampler in it."""

    number: int
    """Of the passes of this device since its process began: samplers that shared a pass have the same."""
    began: float
    """Unix time."""
    seconds: float
    size: int
    rows: int
    """Of this sampler."""
    filled: int
    """Of all samplers; the others of `size` are copies that fill the pass up."""


@dataclass(frozen=True, slots=True)
class PassesMade(Event):
    """A sampler is done with a device: the forward passes that it took part in."""

    device: str
    rows: int
    seconds: float
    """Its part of the passes, by rows."""
    waited: float
    """Seconds that its rows waited for their passes."""
    sizes: dict[int, int]
    """Size of a pass -> how many."""
    passes: tuple[PassRecord, ...] = ()
    """The first of them, up to a bound."""
    models: dict[str, float] = field(default_factory=dict)
    """File and part of each network -> its seconds of `seconds`."""
    alone: str = ""
    """Why no rows of others may be in its passes: rows of a pass mix in its network, or on its device."""
    ratios: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """The cost of a row in passes that so many runs share, as a part of its cost in the sampler's own passes: each
    number was measured with a pass of either kind, on a CPU in seconds in which the device computed. Infinite: the
    memory was too short for such a pass."""
    calculated: dict[int, float] = field(default_factory=dict)
    """The same as it is calculated from the sizes of the passes."""

    def to_json(self) -> dict[str, Any]:
        return {**Event.to_json(self), "passes": [asdict(each) for each in self.passes]}


@dataclass(frozen=True, slots=True)
class RunDone(Event):
    status: str
    """`done`, `failed` or `cancelled`."""
    seconds: float
    importing: float = 0.0
    """Seconds of them in which the process imported libraries."""
