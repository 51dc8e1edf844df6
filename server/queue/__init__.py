"""The durable queue: prompts in a file, a worker process that runs them, events that can be read again."""

from ..worker.config import WorkerConfig
from .queue import PromptQueue
from .records import Conflict, Counts, Page, Prompt, QueueEvent, QueueUnavailable, Receipt, Submission
from .settings import QueueSettings

__all__ = [
    "Conflict",
    "Counts",
    "Page",
    "Prompt",
    "PromptQueue",
    "QueueEvent",
    "QueueSettings",
    "QueueUnavailable",
    "Receipt",
    "Submission",
    "WorkerConfig",
]
