"""Bodies and queries of requests as models: they check what comes in, and the OpenAPI description is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from .words import FolderName

__all__ = [
    "Changes",
    "EventsQuery",
    "FileRef",
    "FormUpload",
    "FreeBody",
    "HistoryChanges",
    "HistoryQuery",
    "ImageUpload",
    "InterruptBody",
    "JobsCancel",
    "JobsQuery",
    "LoginBody",
    "MaskUpload",
    "Move",
    "NameQuery",
    "PathQuery",
    "PromptBody",
    "PromptQuery",
    "QueueChanges",
    "QueueQuery",
    "SocketQuery",
    "SubscribeBody",
    "UserdataQuery",
    "ViewQuery",
    "WorkerFileQuery",
    "WriteQuery",
]

PROMPT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


Name = Annotated[str, Field(min_length=1, max_length=1024)]


PromptId = Annotated[str, Field(pattern=PROMPT_ID)]


def _yes_or_no(value: Any) -> Any:
    return {"true": True, "1": True, "false": False, "0": False, "": False}.get(value, value)


Flag = Annotated[bool, BeforeValidator(_yes_or_no)]


class Body(BaseModel):
    """Strict where it matters, and open: clients of ComfyUI send more than is documented."""

    model_config = ConfigDict(extra="ignore")


class PromptBody(Body):
    prompt: Annotated[dict[str, Any], Field(description="The workflow in the API format: nodes by id.")] | None = None
    prompt_id: PromptId | None = None
    client_id: Annotated[str, Field(max_length=256)] | None = None
    number: Annotated[float, Field(ge=-1e15, le=1e15, strict=True)] | None = None
    front: bool = False
    priority: Annotated[int, Field(ge=-1000, le=1000, strict=True)] = 0
    """Prompts with a higher one go before all with a lower one."""
    deadline: Annotated[float, Field(gt=0, le=1e9, strict=True)] | None = None
    """Seconds from now by which it should be done: of a client's prompts the one whose time ends first goes first."""
    extra_data: dict[str, Any] = Field(default_factory=dict)
    partial_execution_targets: Annotated[list[str], Field(max_length=10_000, fail_fast=True)] | None = None
    strict: bool = False
    webhook: Annotated[str, Field(max_length=2048, pattern=r"^https?://")] | None = None


class WorkerFileQuery(Body):
    """Which attempt has written which file."""

    prompt_id: PromptId
    epoch: Annotated[int, Field(ge=0)]
    filename: Annotated[str, Field(min_length=1, max_length=255)]
    subfolder: Annotated[str, Field(max_length=1024)] = ""
    type: Literal["output", "temp"] = "output"
    claim: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    """The name of its note; see `Settings.claims`."""


class PromptQuery(Body):
    wait: Annotated[float, Field(ge=0, le=3600)] | None = None
    clientId: Annotated[str, Field(max_length=256)] | None = None


class Changes(Body):
    clear: bool = False
    delete: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=100_000, fail_fast=True)] = Field(
        default_factory=list
    )


class HistoryChanges(Changes):
    files: bool = False
    """With `delete`: their files of the output folder are deleted, too, but for those that another prompt shows."""


class Move(Body):
    id: Annotated[str, Field(max_length=256)]
    before: Annotated[str, Field(max_length=256)] | None = None
    """A waiting prompt; null: behind all."""


class QueueChanges(Changes):
    paused: bool | None = None
    """True: start no other prompt; false: go on."""
    move: Move | None = None
    """Another place for a waiting prompt."""


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
    q: Annotated[str, Field(max_length=200)] = ""
    """Words that are looked for in the texts, model, seed, workflow and id of a prompt; all must be there."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    offset: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    sort_by: Literal["create_time", "created_at", "priority"] | None = None
    """`priority`: the order in which they run. Otherwise that in which they were accepted."""
    sort_order: Literal["asc", "desc"] | None = None


class JobsCancel(Body):
    job_ids: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=10_000, fail_fast=True)] = Field(
        default_factory=list
    )
    all: bool = False


class FileRef(Body):
    filename: Name
    subfolder: Annotated[str, Field(max_length=1024)] = ""
    type: FolderName = "output"

    def uploaded(self) -> dict[str, str]:
        return {"name": self.filename, "subfolder": self.subfolder, "type": self.type}


class ViewQuery(FileRef):
    preview: Annotated[str, Field(pattern=r"^(webp|jpeg)(;\d{1,3})?$")] | None = None
    channel: Literal["rgba", "rgb", "a"] | None = None


class ImageUpload(FileRef):
    filename: Name
    type: FolderName = "input"
    overwrite: Annotated[str, Field(max_length=10)] = ""


class FormUpload(Body):
    filename: Name
    """Of the part `file`: a workflow as JSON, or an image that carries one."""


class MaskUpload(ImageUpload):
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
