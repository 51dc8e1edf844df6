"""The messages of the websocket and of the log of a prompt, as models: each is `{"type": ..., "data": {...}}`.

Those of states carry a `number`: their place in the log of their prompt, from which GET /prompts/{id}/events gives them
too. The OpenAPI description is made from these; a test compares them with what a server sends.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, WithJsonSchema

from .answers import ProblemModel, QueueInfo
from .words import MESSAGE_TYPES

__all__ = ["PromptEvent", "PromptEvents", "SocketMessage"]


class ExactModel(BaseModel):
    """There is nothing else in it."""

    model_config = ConfigDict(extra="forbid")


# -- about the server ------------------------------------------------------------------------------------------------


class StatusData(ExactModel):
    status: QueueInfo
    sid: str | None = None
    """Only in the first message: the client id."""


class Status(ExactModel):
    type: Literal["status"]
    data: StatusData


class Features(BaseModel):
    model_config = ConfigDict(extra="allow")
    supports_preview_metadata: bool
    max_upload_size: int


class FeatureFlags(ExactModel):
    """The answer to a client that has sent its own."""

    type: Literal["feature_flags"]
    data: Features


class LogLine(ExactModel):
    t: str
    m: str


class LogData(ExactModel):
    entries: list[LogLine]
    size: None


class Logs(ExactModel):
    """To those who have asked for it with PATCH /internal/logs/subscribe."""

    type: Literal["logs"]
    data: LogData


# -- about a run: states, in the log ---------------------------------------------------------------------------------


class Logged(ExactModel):
    number: Annotated[int, Field(ge=1)]
    """Its place in the log of the prompt."""


class StartData(ExactModel):
    prompt_id: str
    timestamp: int
    """Milliseconds of Unix time."""
    attempt: int | None = None
    """2 or more, where the prompt was started before."""


class ExecutionStart(Logged):
    type: Literal["execution_start"]
    data: StartData


class CachedData(ExactModel):
    prompt_id: str
    nodes: list[str]
    timestamp: int


class ExecutionCached(Logged):
    type: Literal["execution_cached"]
    data: CachedData


class ExecutingData(ExactModel):
    prompt_id: str
    node: str
    display_node: str
    """The node of the workflow that it belongs to."""


class Executing(Logged):
    type: Literal["executing"]
    data: ExecutingData


class ExecutedData(ExactModel):
    prompt_id: str
    node: str
    display_node: str
    output: dict[str, Any]
    """The `ui` of the node: `{"images": [{"filename", "subfolder", "type"}]}` and the like."""


class Executed(Logged):
    type: Literal["executed"]
    data: ExecutedData


class SuccessData(ExactModel):
    prompt_id: str
    timestamp: int


class ExecutionSuccess(Logged):
    type: Literal["execution_success"]
    data: SuccessData


class InterruptedData(ExactModel):
    prompt_id: str
    node_id: str | None
    node_type: str | None
    executed: list[str]
    timestamp: int


class ExecutionInterrupted(Logged):
    type: Literal["execution_interrupted"]
    data: InterruptedData


class ErrorData(ExactModel):
    prompt_id: str
    node_id: str | None
    node_type: str | None
    executed: list[str]
    exception_type: str
    exception_message: str
    traceback: list[str]
    current_inputs: dict[str, list[Any]]
    current_outputs: list[str]
    timestamp: int
    problems: list[ProblemModel] | None = None
    """All that went wrong; none are known where the process died."""


class ExecutionError(Logged):
    type: Literal["execution_error"]
    data: ErrorData


# -- about a run: what passes ----------------------------------------------------------------------------------------


class NodeProgress(ExactModel):
    value: float
    max: float
    state: Literal["running", "finished", "error"]
    node_id: str
    prompt_id: str
    display_node_id: str
    parent_node_id: str | None
    real_node_id: str


class ProgressStateData(ExactModel):
    prompt_id: str
    nodes: dict[str, NodeProgress]


class ProgressState(ExactModel):
    type: Literal["progress_state"]
    data: ProgressStateData


class OverData(ExactModel):
    prompt_id: str
    node: None


class RunOver(ExactModel):
    """Comes after the last event of a run, whatever that was."""

    type: Literal["executing"]
    data: OverData


class ProgressData(ExactModel):
    prompt_id: str
    node: str
    value: float
    max: float


class ProgressMessage(ExactModel):
    type: Literal["progress"]
    data: ProgressData


# -- all of them -----------------------------------------------------------------------------------------------------

ServerMessage = Status | FeatureFlags | Logs
StateMessage = (
    ExecutionStart | ExecutionCached | Executing | Executed | ExecutionSuccess | ExecutionInterrupted | ExecutionError
)
PassingMessage = ProgressState | ProgressMessage


def _is_free(kind: str) -> str:
    if kind in MESSAGE_TYPES:
        raise ValueError("this type is the protocol's own")
    return kind


class NodeMessage(Logged):
    """A message of a node, of a type of its own."""

    type: Annotated[
        str, AfterValidator(_is_free), WithJsonSchema({"type": "string", "not": {"enum": sorted(MESSAGE_TYPES)}})
    ]
    data: dict[str, Any]


class SocketMessage(
    RootModel[
        Annotated[ServerMessage | StateMessage | PassingMessage, Field(discriminator="type")] | RunOver | NodeMessage
    ]
):
    """One text message of the websocket."""


class PromptEvent(RootModel[Annotated[StateMessage, Field(discriminator="type")] | NodeMessage]):
    """One event of a prompt's log."""


class PromptEvents(ExactModel):
    prompt_id: str
    events: list[PromptEvent]
    last: int
    """The number to go on from, as `since`."""
