"""The memory of the worker process: a limit, and who the kernel ends when the machine has none left."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["machine_memory", "prepare_memory"]

OOM_SCORE = 800
"""Of -1000 to 1000; the server has 0. So the kernel ends the worker, which is replaced, and not the queue."""
CGROUP = Path("/sys/fs/cgroup/memory.max")


def prepare_memory(limit: int | None) -> None:
    """For this process and those that it starts. Above `limit` bytes (None: no limit) an allocation fails: the node
    that asked for it ends with an error, and the process goes on.

    The limit counts private memory that can be written (RLIMIT_DATA), not files that are mapped, nor device memory.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    if limit is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def machine_memory() -> int | None:
    """Bytes of main memory and swap that a process here can get at all; None where that is not known."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        total, swap = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError):
        return None
    with suppress(OSError, ValueError):  # `max` where the container has no limit
        total = min(total, int(CGROUP.read_text()))
    return total + swap
