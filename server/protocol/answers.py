"""Answers as models, from which the OpenAPI description is made; a test compares them with what the server answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from .words import CancelResult, StateName

__all__ = [
    "Accepted",
    "ErrorDetail",
    "ExecInfo",
    "FileInfo",
    "FormField",
    "Health",
    "History",
    "HistoryEntry",
    "HistoryMeta",
    "HistoryStatus",
    "Job",
    "JobCancelled",
    "JobSummary",
    "JobWorkflow",
    "JobsCancelled",
    "JobsPage",
    "Pagination",
    "ProblemModel",
    "PromptState",
    "QueueInfo",
    "QueueLists",
    "Refusal",
    "ValidateAnswer",
    "WholeJob",
    "WorkerState",
    "WorkersListed",
    "WorkflowForm",
]

QueueItem = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]
"""Number, prompt id, workflow, extra_data, ids of the outputs."""


Outputs = dict[str, dict[str, Any]]
"""The `ui` of each node: `{"9": {"images": [{"filename", "subfolder", "type"}]}}`."""


class Accepted(BaseModel):
    """With `?wait=`, the state of the prompt stands beside these."""

    model_config = ConfigDict(extra="allow")
    prompt_id: str
    number: float
    node_errors: dict[str, Any]


class PromptState(BaseModel):
    prompt_id: str
    number: float
    state: StateName
    created: float
    started: float | None
    finished: float | None
    outputs: Outputs
    error: dict[str, Any] | None


class QueueLists(BaseModel):
    queue_running: list[QueueItem]
    queue_pending: list[QueueItem]


class HistoryStatus(BaseModel):
    status_str: Literal["success", "error"]
    completed: bool
    messages: list[tuple[str, dict[str, Any]]]
    """Type and data of its start, of what was cached, and of its end."""


class HistoryMeta(BaseModel):
    node_id: str
    display_node: str
    parent_node: str | None
    real_node_id: str


class HistoryEntry(BaseModel):
    prompt: QueueItem
    outputs: Outputs
    status: HistoryStatus
    meta: dict[str, HistoryMeta]


class History(RootModel[dict[str, HistoryEntry]]):
    """Entries by prompt id; empty where there is none."""


class ExecInfo(BaseModel):
    queue_remaining: int
    """Prompts that wait or run."""


class QueueInfo(BaseModel):
    exec_info: ExecInfo


class Job(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: str
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled"]
    create_time: int | None = None
    execution_start_time: int | None = None
    execution_end_time: int | None = None
    preview_output: dict[str, Any] | None = None
    outputs_count: int = 0
    execution_error: dict[str, Any] | None = None
    priority: float | None = None
    summary: JobSummary | None = None
    expected_seconds: float | None = None
    """Of a prompt that waits or runs: the median of earlier runs of the same nodes, model, size and steps."""


class JobSummary(BaseModel):
    """Each is null where the workflow has no such thing."""

    workflow: str | None = None
    text: str | None = None
    negative: str | None = None
    seed: int | float | str | None = None
    steps: int | float | str | None = None
    cfg: int | float | str | None = None
    sampler: int | float | str | None = None
    scheduler: int | float | str | None = None
    model: str | None = None
    width: int | float | str | None = None
    height: int | float | str | None = None
    batch: int | float | str | None = None
    client: str | None = None


class JobWorkflow(BaseModel):
    prompt: dict[str, Any]
    extra_data: dict[str, Any]


class WholeJob(Job):
    workflow: JobWorkflow
    outputs: Outputs
    execution_status: HistoryStatus | None
    """None while it waits or runs."""
    targets: list[str] = []
    titles: dict[str, str] = {}
    """The title of each node."""
    expected_nodes: dict[str, float] = {}
    """The seconds of each node, by earlier runs; a node that has not run before is left out."""
    fields: list[FormField] = []


class FormField(BaseModel):
    """An input that people change, as a form shows it."""

    model_config = ConfigDict(extra="allow")
    name: str
    label: str
    kind: Literal["text", "int", "float", "choice", "image"]
    places: list[tuple[str, str]]
    """Nodes and inputs that it sets."""
    value: Any


class WorkflowForm(BaseModel):
    """A workflow that can be run from a form."""

    name: str
    title: str
    description: str
    workflow: dict[str, Any]
    """In the API format."""
    fields: list[FormField]
    problems: list[ProblemModel]
    """The reasons that keep it from running, such as a model that is not there."""


class Pagination(BaseModel):
    offset: int
    limit: int
    total: int
    has_more: bool


class JobsPage(BaseModel):
    jobs: list[Job]
    pagination: Pagination


class JobCancelled(BaseModel):
    id: str
    result: CancelResult


class JobsCancelled(BaseModel):
    results: dict[str, CancelResult]


class ProblemModel(BaseModel):
    code: str
    message: str
    node: str | None = None
    title: str | None = None
    input: str | None = None
    hint: str | None = None


class ValidateAnswer(BaseModel):
    valid: bool
    outputs: list[str]
    problems: list[ProblemModel]
    warnings: list[ProblemModel]
    node_errors: dict[str, Any]
    expected_seconds: float | None = None
    """The median of earlier runs of the same nodes, model, size and steps."""
    cost: list[dict[str, Any]] = []
    """What a run would load and need, from the headers of its files, as if nothing came from the cache: `loads`,
    `stages`, `peak` in bytes and `passes`, one entry for each package that estimates its nodes."""


class WorkerState(BaseModel):
    name: str
    state: Literal["starting", "idle", "running", "stopped"]
    prompts: list[str]
    """Ids of those that it has."""
    models: list[dict[str, Any]]
    devices: list[dict[str, Any]]
    memory: int
    """Bytes of main memory of its process."""
    starts: int
    deaths: int
    silent_seconds: float
    """Since its last sign of life."""
    problems: list[dict[str, Any]]


class WorkersListed(BaseModel):
    workers: list[WorkerState]
    waiting: dict[str, str]
    """What each of the first waiting prompts waits for, by its id."""


class ErrorDetail(BaseModel):
    type: str
    message: str
    details: str
    extra_info: dict[str, Any]


class Refusal(BaseModel):
    """Every answer with a 4xx."""

    error: ErrorDetail
    node_errors: dict[str, Any]
    problems: list[ProblemModel]


class FileInfo(BaseModel):
    path: str
    size: int
    modified: float
    created: float


class Health(BaseModel):
    status: Literal["ok", "closing"]
    version: str
    worker: str
    paused: bool
