"""The settings of the queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..worker.config import WorkerConfig

__all__ = ["QUEUE_FILE", "SERVER_LOCK", "WORKER_LOCK", "QueueSettings"]

QUEUE_FILE, SERVER_LOCK, WORKER_LOCK = "queue.sqlite", "server.lock", "worker.lock"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`folder` holds the queue's file and locks; one server at a time has it, and it is served to nobody."""

    folder: Path
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    start_paused: bool = False
    history_count: int = 10_000
    """Finished prompts that are remembered; the oldest are forgotten first, their files stay."""
    history_bytes: int = 1 << 30
    waiting_of_one: int | None = None
    """How many prompts of one sender may wait."""
    devices: tuple[str, ...] | None = ()
    """Devices of this machine with a worker process each; (): one worker, on the device of its configuration; None: no
    worker, only those of other machines."""
    concurrency: int = 1
    """How many prompts a worker holds at a time."""
    share_passes: int = 1
    """How many of them may share forward passes. With 1 an image has the bits of a plain run."""
    one_a_client: bool = False
    """At most one of a worker's prompts is of the same client: where several are at work, each client sees one."""
    max_crashes: int = 2
    """A prompt that was running when the process died this often is given up."""
    lease: float = 30.0
    """Seconds without a sign of life after which a worker is taken for hung."""
    cancel_within: float = 30.0
    """Seconds that a node may take to notice a cancel; then its process is killed."""
    stop_within: float = 8.0
    """Seconds that a shutdown waits for the step at hand."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts (`example.org` or `example.org:8080`) that webhooks may name; none: there are no webhooks."""
    webhook_secret: bytes = b""
    """Signs webhooks; empty: one is made and kept in the folder, `webhook.secret`."""
