"""The parts of models that devices hold at the moment, by what the runs report."""

from __future__ import annotations

from pathlib import PurePath
from threading import Lock
from typing import Any

from graphflow import Event
from graphflow.spi import ModelEvent

__all__ = ["Residents"]

MOST = 200
"""Parts that are listed."""


class Residents:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._parts: dict[tuple[str, str, str, str], int] = {}

    def note(self, event: Event) -> None:
        """Take in an event of a run; all but those about models are ignored."""
        if isinstance(event, ModelEvent):
            key = (event.device, event.file, event.part, event.format)
            with self._lock:
                if event.action == "dropped":
                    self._parts.pop(key, None)
                else:
                    self._parts[key] = event.bytes

    def listed(self) -> list[dict[str, Any]]:
        """`{name, part, format, bytes, device}` of each, without the folders of this machine, the largest first."""
        with self._lock:
            parts = sorted(self._parts.items(), key=lambda item: -item[1])[:MOST]
        return [
            {"name": PurePath(file).name, "part": part, "format": form, "bytes": size, "device": device}
            for (device, file, part, form), size in parts
        ]
