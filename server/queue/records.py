"""The values that go into the queue and come out of it: submissions, prompts, pages, events. No database here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from graphflow import GraphFlowError, Problem
from graphflow.spi import is_quickly_compared, likeness

from ..protocol.words import TERMINAL, StateName
from .secrecy import without_secrets
from .summary import NO_SUMMARY, Summary, summarised
from .texts import digest

__all__ = [
    "Conflict",
    "Counts",
    "Page",
    "Prompt",
    "OwnerLost",
    "QueueEvent",
    "QueueUnavailable",
    "Receipt",
    "Submission",
]


@dataclass(frozen=True, slots=True)
class Submission:
    """A prompt as it is handed in; already validated."""

    workflow: dict[str, Any]
    """The graph in the API format: `{node id: {"class_type": ..., "inputs": {...}}}`."""
    targets: tuple[str, ...] = ()
    """Ids of the output nodes to run; empty: all of them."""
    extra: dict[str, Any] = field(default_factory=dict)
    """ComfyUI's `extra_data`; `extra_pnginfo` in it goes into saved images. Secrets in it are dropped, not stored."""
    client_id: str | None = None
    """The client that gets the events; a label, not a right."""
    prompt_id: str | None = None
    """None: one is made (uuid4)."""
    number: float | None = None
    """Place in the queue, lower first; None: behind all that are there."""
    front: bool = False
    """Before all that are there; `number` wins over it."""
    priority: int = 0
    """Prompts with a higher one go before all with a lower one, whoever sent them."""
    within: float | None = None
    """Seconds in which it should be done. Of one client's prompts the one whose time ends first goes first."""
    node_errors: dict[str, Any] = field(default_factory=dict)
    """The errors of outputs that are left out; kept, so that a repeated submission gets the same answer."""
    webhook: str | None = None
    """An http(s) URL that is notified of the end. Refused unless its host is allowed."""
    sender: str = ""
    """The origin, such as a network address: of each sender only so many may wait."""
    asked: Any = None
    """The request, where `targets` are what a check left of it: a check depends on the files and nodes of the moment,
    and whether two submissions are the same does not. None: the targets."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    """The warnings of a check; kept for a repeated submission, too."""
    digest: bytes = b""
    """Equal for submissions that are the same; see `sealed`."""
    summary: Summary | None = None
    """The summary that lists show; see `sealed`."""
    likeness: str = ""
    """Equal for those whose prompts may share passes; see graphflow/passes/."""
    pass_costs: dict[int, float] = field(default_factory=dict)
    """The calculated cost of a row in passes that so many prompts like it share; kept until a worker has measured."""

    def sealed(self) -> Submission:
        """Without secrets, with its summary and its digest: all that was asked for, but not who asked. Takes a while if
        it is large."""
        if self.digest:
            return self
        extra = without_secrets(self.extra)
        asked = sorted(self.targets) if self.asked is None else self.asked
        whole = [self.workflow, asked, extra, self.number, self.front, self.webhook]
        if self.priority or self.within is not None:  # prompts of older versions have neither
            whole += [self.priority, self.within]
        return replace(
            self,
            extra=extra,
            digest=digest(whole),
            summary=summarised(self.workflow, extra),
            likeness=likeness(self.workflow) if is_quickly_compared(self.workflow) else "",
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a submission, the same each time the same one is made."""

    prompt_id: str
    number: float
    node_errors: dict[str, Any]
    warnings: list[dict[str, Any]]
    existed: bool
    """This very submission had been accepted before."""


@dataclass(frozen=True)
class Prompt:
    """A queued workflow and what has become of it."""

    id: str
    number: float
    state: StateName
    client_id: str | None
    created: float
    """Unix time; so are `started` (of the latest attempt) and `finished`."""
    started: float | None
    finished: float | None
    attempts: int
    """How often it was started; a start that a shutdown interrupted is not counted."""
    crashes: int
    """How often the process died while it ran, and nothing beside it."""
    epoch: int
    """Goes up with every start and end: whoever holds an older one can change nothing any more."""
    cancelling: bool
    """It still runs, but will end as cancelled."""
    targets_json: str
    workflow_json: str
    extra_json: str
    outputs_json: str
    meta_json: str
    messages_json: str
    sender: str
    likeness: str | None
    """Equal for prompts that may share passes; see graphflow/passes/."""
    passes: int | None
    """How many prompts share its passes; decided when it is first claimed."""
    alone: int
    """1: it runs beside no other prompt of its worker, since one has died, or was short of memory, while it ran beside
    others. 2: beside no other prompt at all, since the server has died while several workers ran."""
    summary_json: str = "{}"
    program: str = ""
    """Equal for workflows of the same nodes."""
    worker: str | None = None
    """The name of the worker that has or had it."""
    priority: int = 0
    deadline: float | None = None
    """Unix time by which it should be done."""
    compare: int = 1
    """Its run compares passes of its own with those that so many prompts share. Of one that was just claimed; it is not
    in the queue's file."""

    @property
    def client(self) -> str:
        """Between whom the turns are fair."""
        return self.client_id or self.sender

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Ids of the output nodes that are asked for."""
        return tuple(json.loads(self.targets_json))

    @cached_property
    def workflow(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.workflow_json)
        return found

    @cached_property
    def extra(self) -> dict[str, Any]:
        """The submitted `extra_data` (never with API keys in it), and the `client_id`, as ComfyUI has it there."""
        found: dict[str, Any] = json.loads(self.extra_json)
        return found if self.client_id is None else {**found, "client_id": self.client_id}

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """`{node id: what it shows}`; empty until the prompt has finished."""
        found: dict[str, Any] = json.loads(self.outputs_json)
        return found

    @cached_property
    def messages(self) -> list[list[Any]]:
        """`[[type, data], ...]` of the last attempt: its start, what was cached, its end."""
        found: list[list[Any]] = json.loads(self.messages_json)
        return found

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Workflow, texts, seed, steps, model, size ...; all None where it was accepted by an older version."""
        return {**NO_SUMMARY, **json.loads(self.summary_json)}

    @property
    def error(self) -> dict[str, Any] | None:
        """The data of the `execution_error` that ended it."""
        return next((data for kind, data in self.messages if kind == "execution_error"), None)

    def item(self) -> list[Any]:
        """As `GET /queue` shows it: `[number, id, workflow, extra_data, output node ids]`."""
        return [self.number, self.id, self.workflow, self.extra, list(self.targets)]

    def entry(self) -> dict[str, Any]:
        """As `GET /history` shows it: `{prompt, outputs, status: {status_str, completed, messages}, meta}`."""
        done = self.state == "done"
        status = {"status_str": "success" if done else "error", "completed": done, "messages": self.messages}
        return {"prompt": self.item(), "outputs": self.outputs, "status": status, "meta": json.loads(self.meta_json)}


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and how long the list is."""

    prompts: list[Prompt]
    total: int


@dataclass(frozen=True, slots=True)
class Counts:
    pending: int = 0
    running: int = 0

    @property
    def remaining(self) -> int:
        """ComfyUI's `queue_remaining`: waiting and running."""
        return self.pending + self.running


@dataclass(frozen=True)
class QueueEvent:
    """Something that has happened to a prompt, in ComfyUI's words.

    Stored (`number` 1, 2, ... without gaps in each prompt): execution_start, execution_cached, executing, executed, and
    one of TERMINAL at the end. After a crash a prompt starts again: its log goes on with another execution_start.
    Passing (`number` None, never stored): status (of all; no prompt), progress, progress_state, preview (`blob` is the
    image, `data` the metadata of ComfyUI's binary frame 4), image (the same, of one that is a result), text (a line of
    a node about its work), run_stats (seconds and counts of a run that has ended). ComfyUI's `executing {"node": null}`
    is not among them: it is due after every TERMINAL one.
    """

    prompt_id: str | None
    number: int | None
    type: str
    data_json: str
    client_id: str | None = None
    """Whose prompt it is; None: everybody's."""
    blob: bytes = b""

    @cached_property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data_json)
        return found

    @cached_property
    def text(self) -> str:
        """The websocket message, made once however many read it; a stored one has its number, to go on from there."""
        number = "" if self.number is None else f', "number": {self.number}'
        return f'{{"type": {json.dumps(self.type)}, "data": {self.data_json}{number}}}'

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL

    @property
    def never_began(self) -> bool:
        """It is the end of a prompt that was cancelled while it waited: nothing came before it."""
        return self.number == 1 and self.is_terminal


class QueueUnavailable(GraphFlowError):
    """The queue does not take it just now: it is shutting down, or the disk is full (codes `closing`, `no_disk`), or
    too many prompts of its sender wait (`queue_full`)."""


class OwnerLost(QueueUnavailable):
    """Another server has opened the queue's file, so this one writes nothing more (code `folder_in_use`)."""

    def __init__(self, path: object) -> None:
        hint = "only one of the two may go on; their lock files were removed, or lie on a file system without locks"
        super().__init__([Problem("folder_in_use", f"another server has taken over {path}", hint=hint)])


class Conflict(GraphFlowError):
    """The prompt id is taken by another submission."""

    def __init__(self, prompt_id: str) -> None:
        hint = "leave prompt_id out, or choose another one"
        super().__init__([Problem("prompt_id_taken", f"another prompt has the id {prompt_id!r} already", hint=hint)])
