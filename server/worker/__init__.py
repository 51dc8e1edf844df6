"""The process that runs the prompts, and what keeps it alive."""

from .attempt import Attempt, Crowded, Died, Finished, Lost, Outcome, Released, Unfit, WorkerStatus
from .blackbox import last_node
from .config import WorkerConfig
from .devices import DevicePlace, named_devices, places_of, present_devices
from .supervisor import Worker

__all__ = [
    "Attempt",
    "Crowded",
    "DevicePlace",
    "Died",
    "Finished",
    "Lost",
    "Outcome",
    "Released",
    "Unfit",
    "Worker",
    "WorkerConfig",
    "WorkerStatus",
    "last_node",
    "named_devices",
    "places_of",
    "present_devices",
]
