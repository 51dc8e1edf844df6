"""Large files are read whole once, to know what they hold: events report it, and it ends when the run is cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

from ..events import Event, Reading
from ..files.digests import Watched
from ..problem import Cancelled
from ..settings import Settings

__all__ = ["watched"]

EVERY = 0.25
"""Seconds between two events about files."""


def watched(settings: Settings, cancel: Flag, emit: Callable[[Event], None]) -> Settings:
    """The settings for one run: its events have a listener, and its digests report their reading and raise
    Cancelled."""
    reported = time.perf_counter()

    def watch(path: Path, done: int, total: int) -> None:
        nonlocal reported
        if cancel.is_set():
            raise Cancelled
        now = time.perf_counter()
        if now - reported > EVERY:
            reported = now
            emit(Reading(path.name, done, total))

    return replace(settings, digests=Watched(settings.digests, watch), notify=emit, cancelled=cancel.is_set)
