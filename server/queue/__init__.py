"""The durable queue: prompts in a file, a worker process that runs them, events that can be read again."""

from ..worker.config import WorkerConfig
from .queue import PromptQueue
from .records import (
    ACTIVE,
    FINISHED,
    TERMINAL,
    Accepted,
    Conflict,
    Counts,
    Event,
    Page,
    Prompt,
    Refused,
    State,
    Submission,
)
from .settings import QueueSettings

__all__ = [
    "ACTIVE", "FINISHED", "TERMINAL", "Accepted", "Conflict", "Counts", "Event", "Page", "Prompt", "PromptQueue",
    "QueueSettings", "Refused", "State", "Submission", "WorkerConfig",
]  # fmt: skip
