"""The main memory of this machine, or of the container that this process lives in, and its processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["memory_of_machine", "processor_line", "weights_budget"]

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
UNKNOWN = 1 << 60
SHARE_FOR_WEIGHTS = 0.6
USUAL_BUDGET = 12 << 30


def memory_of_machine() -> int:
    """Bytes; very many where the system does not tell."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        found = UNKNOWN
    for path in LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            found = min(found, int(text))
    return found if found > 0 else UNKNOWN


def weights_budget(memory: int) -> int:
    """Bytes that models may hold in a main memory of so many bytes where the settings state no number.

    60 %, which on 24 GB holds all parts of SDXL in float32, so that a new prompt reloads nothing; 12 GiB where that is
    less or the memory is not known.
    """
    share = int(memory * SHARE_FOR_WEIGHTS) if memory < UNKNOWN else 0
    return min(memory, max(USUAL_BUDGET, share))


def processor_line(name: str) -> str:
    """`flags : fpu vme ...` and the like, as Linux states them of the first core; what else is known of the processor
    where it has no line of this name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    return next((line for line in lines if line.startswith(name)), lines[0] if lines else "")
