"""How the allocator of the C library treats the memory of large tensors in this process.

glibc gives the memory of a large block back to the kernel as soon as it is freed, and the kernel fills each page with
zeros when it is asked for again. Each pass of a network frees and asks for hundreds of such blocks: for a U-Net of
SD 1.5's size 1.9 GB a pass, a sixth of its CPU time. So freed memory is kept for the next pass, and given back when the
device has had nothing to do for a while and when a model is dropped.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

__all__ = ["give_memory_back", "keep_memory"]

VARIABLE = "GRAPHFLOW_KEEP_MEMORY"
"""`0` leaves the allocator as it is."""
# mallopt(3): the names of its parameters in <malloc.h>
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
SETTINGS = {
    ARENA_MAX: 1,  # the areas of other threads are mapped and unmapped in pieces of 64 MB
    MMAP_MAX: 0,  # no block has a mapping of its own, which ends when it is freed
    TRIM_THRESHOLD: (1 << 31) - 1,
    TOP_PAD: 64 << 20,
}


@cache
def keep_memory() -> bool:
    """Let this process keep what it frees. Returns whether it does: elsewhere than on glibc nothing is changed."""
    libc = _glibc()
    if libc is None or os.environ.get(VARIABLE) == "0":
        return False
    return all([libc.mallopt(name, value) for name, value in SETTINGS.items()])


def give_memory_back() -> None:
    """Return the pages that no block lies in to the kernel."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
