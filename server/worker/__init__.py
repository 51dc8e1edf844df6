"""The process that runs the prompts, and what keeps it alive."""

from .attempt import Attempt, Crowded, Died, Finished, Outcome, Released, WorkerStatus
from .blackbox import last_node
from .config import WorkerConfig
from .supervisor import Worker

__all__ = [
    "Attempt",
    "Crowded",
    "Died",
    "Finished",
    "Outcome",
    "Released",
    "Worker",
    "WorkerConfig",
    "WorkerStatus",
    "last_node",
]
