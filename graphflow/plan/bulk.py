"""Making many small objects at once, without the cycle collector walking through them again and again.

A plan is many small objects, all of them kept, and none of them a cycle. For a hundred thousand nodes the collector
took a third of the time to find nothing among them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["in_bulk", "kept"]

MANY = 100_000
"""From so many new objects on, it pays to have the collector pass them over."""

_lock = Lock()
_blocks = 0
"""How many blocks of `kept` are open, in all threads."""
_frozen = False
"""Whether the collector passes objects over because of us."""


@contextmanager
def in_bulk() -> Iterator[None]:
    """Without the collector, for as long as a plan is made. In a block of `kept`, a large plan is passed over
    afterwards."""
    global _frozen
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            with _lock:
                if _blocks and (_frozen or not gc.get_freeze_count()):  # what others have frozen is theirs to thaw
                    gc.freeze()
                    _frozen = True
        gc.enable()


@contextmanager
def kept() -> Iterator[None]:
    """Objects that are made in bulk inside this block live at least until its end: only then does the collector look at
    them."""
    global _blocks, _frozen
    with _lock:
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _frozen and not _blocks:
                gc.unfreeze()
                _frozen = False
