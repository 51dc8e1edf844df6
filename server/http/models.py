"""Bodies, queries and answers as models: they check what comes in, and the OpenAPI description is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel

__all__ = [
    "Accepted", "Changes", "EventsQuery", "FieldError", "FileInfo", "FileRef", "FreeBody", "Health", "History", "HistoryQuery",
    "InterruptBody", "Job", "JobCancelled", "JobsCancel", "JobsCancelled", "JobsPage", "JobsQuery", "LoginBody", "MaskUpload",
    "NameQuery", "Pagination", "PathQuery", "PictureUpload", "ProblemModel", "PromptBody", "PromptQuery", "PromptState",
    "QueueChanges", "QueueInfo", "QueueLists", "QueueQuery", "Refusal", "SocketQuery", "SubscribeBody", "UserdataQuery",
    "ValidateAnswer", "ViewQuery", "WholeJob", "WriteQuery",
]  # fmt: skip

PROMPT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Folder = Literal["output", "input", "temp"]
Name = Annotated[str, Field(min_length=1, max_length=1024)]
PromptId = Annotated[str, Field(pattern=PROMPT_ID)]


QueueItem = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]
"""Number, prompt id, workflow, extra_data, ids of the outputs."""
Outputs = dict[str, dict[str, Any]]
"""What each node has shown: `{"9": {"images": [{"filename", "subfolder", "type"}]}}`."""


def _yes_or_no(value: Any) -> Any:
    return {"true": True, "1": True, "false": False, "0": False, "": False}.get(value, value)


Flag = Annotated[bool, BeforeValidator(_yes_or_no)]


class Body(BaseModel):
    """Strict where it matters, and open: clients of the field send more than is documented."""

    model_config = ConfigDict(extra="ignore")


# -- prompts --------------------------------------------------------------------------------------------------------------


class PromptBody(Body):
    prompt: Annotated[dict[str, Any], Field(description="The workflow in the API format: nodes by id.")] | None = None
    prompt_id: PromptId | None = None
    client_id: Annotated[str, Field(max_length=256)] | None = None
    number: Annotated[float, Field(ge=-1e15, le=1e15, strict=True)] | None = None
    front: bool = False
    extra_data: dict[str, Any] = Field(default_factory=dict)
    partial_execution_targets: Annotated[list[str], Field(max_length=10_000, fail_fast=True)] | None = None
    strict: bool = False
    webhook: Annotated[str, Field(max_length=2048, pattern=r"^https?://")] | None = None


class PromptQuery(Body):
    wait: Annotated[float, Field(ge=0, le=3600)] | None = None
    clientId: Annotated[str, Field(max_length=256)] | None = None


class Accepted(BaseModel):
    """With `?wait=`, the state of the prompt stands beside these."""

    model_config = ConfigDict(extra="allow")
    prompt_id: str
    number: float
    node_errors: dict[str, Any]


class PromptState(BaseModel):
    prompt_id: str
    number: float
    state: Literal["pending", "running", "done", "failed", "cancelled"]
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


class Changes(Body):
    clear: bool = False
    delete: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=100_000, fail_fast=True)] = Field(
        default_factory=list
    )


class QueueChanges(Changes):
    paused: bool | None = None
    """True: start no other prompt; false: go on."""


class InterruptBody(Body):
    prompt_id: Annotated[str, Field(max_length=256)] | None = None


class FreeBody(Body):
    unload_models: bool = False
    free_memory: bool = False


class QueueQuery(Body):
    limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    offset: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class HistoryQuery(Body):
    max_items: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    offset: Annotated[int, Field(ge=-1, le=10_000_000)] | None = None


class EventsQuery(Body):
    since: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    wait: Annotated[float, Field(ge=0, le=3600)] = 0.0


class JobsQuery(Body):
    status: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    offset: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    sort_by: Literal["create_time", "created_at"] | None = None
    """Left out: those that wait and run in their order, those that are over by their end."""
    sort_order: Literal["asc", "desc"] | None = None


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


class JobWorkflow(BaseModel):
    prompt: dict[str, Any]
    extra_data: dict[str, Any]


class WholeJob(Job):
    workflow: JobWorkflow
    outputs: Outputs
    execution_status: HistoryStatus | None
    """None while it waits or runs."""


class Pagination(BaseModel):
    offset: int
    limit: int
    total: int
    has_more: bool


class JobsPage(BaseModel):
    jobs: list[Job]
    pagination: Pagination


class JobsCancel(Body):
    job_ids: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=10_000, fail_fast=True)] = Field(
        default_factory=list
    )
    all: bool = False


Cancelled = Literal["cancelled", "cancelling", "finished", "unknown"]


class JobCancelled(BaseModel):
    id: str
    result: Cancelled


class JobsCancelled(BaseModel):
    results: dict[str, Cancelled]


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


class FieldError(BaseModel):
    type: str
    message: str
    details: str
    extra_info: dict[str, Any]


class Refusal(BaseModel):
    """Every answer with a 4xx."""

    error: FieldError
    node_errors: dict[str, Any]
    problems: list[ProblemModel]


# -- files ----------------------------------------------------------------------------------------------------------------


class FileRef(Body):
    filename: Name
    subfolder: Annotated[str, Field(max_length=1024)] = ""
    type: Folder = "output"

    def uploaded(self) -> dict[str, str]:
        return {"name": self.filename, "subfolder": self.subfolder, "type": self.type}


class ViewQuery(FileRef):
    preview: Annotated[str, Field(pattern=r"^(webp|jpeg)(;\d{1,3})?$")] | None = None
    channel: Literal["rgba", "rgb", "a"] | None = None


class PictureUpload(FileRef):
    filename: Name
    type: Folder = "input"
    overwrite: Annotated[str, Field(max_length=10)] = ""


class MaskUpload(PictureUpload):
    original_ref: FileRef


class UserdataQuery(Body):
    dir: Annotated[str, Field(max_length=1024)] = ""
    recurse: Flag = False
    full_info: Flag = False
    split: Flag = False


class WriteQuery(Body):
    overwrite: Flag = True
    full_info: Flag = False


class PathQuery(Body):
    path: Annotated[str, Field(max_length=1024)] = ""


class FileInfo(BaseModel):
    path: str
    size: int
    modified: float
    created: float


# -- small ones -----------------------------------------------------------------------------------------------------------


class NameQuery(Body):
    filename: Name


class LoginBody(Body):
    token: Annotated[str, Field(max_length=1024)]


class SubscribeBody(Body):
    clientId: Annotated[str, Field(max_length=256)]
    enabled: bool


class SocketQuery(Body):
    clientId: Annotated[str, Field(max_length=256)] = ""
    prompt_id: Annotated[str, Field(max_length=256)] | None = None
    """Hear of this prompt as well, whoever has sent it."""
    since: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    """Of `prompt_id`: only what came after this event."""
    all: Flag = False
    """Hear of all prompts."""


class Health(BaseModel):
    status: Literal["ok", "closing"]
    version: str
    worker: str
    paused: bool
