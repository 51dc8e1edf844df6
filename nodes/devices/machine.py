"""The main memory of this machine, or of the container that this process lives in."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["memory_of_machine"]

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
UNKNOWN = 1 << 60


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
