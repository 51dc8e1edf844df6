"""The times of a run: when which node, step, load and forward pass began and ended; handed over at its end, in JSON."""

from __future__ import annotations

import json
import os
import time
from dataclasses import astuple
from typing import Any

from graphflow import Event
from graphflow.spi import (
    ModelEvent,
    NodeAnew,
    NodeBlocked,
    NodeCached,
    NodeDone,
    NodeError,
    NodeStarted,
    PassesMade,
    PassTally,
    Progress,
)

__all__ = ["RunTimes"]

MOST = 2000
"""Of each kind."""


class RunTimes:
    """Of one run. Not thread-safe: the caller keeps threads apart."""

    def __init__(self) -> None:
        self._began = time.time()
        self._open: dict[str, float] = {}
        self._nodes: list[tuple[str, str, float, float, str]] = []
        self._steps: list[tuple[str, int, int, float]] = []
        self._models: list[tuple[str, str, str, str, float, float]] = []
        self._passes: list[tuple[Any, ...]] = []
        self._made = {"rows": 0, "seconds": 0.0, "waited": 0.0}
        self._devices: dict[str, dict[str, Any]] = {}
        self._costs = PassTally()

    def note(self, event: Event, display: str) -> None:
        now = time.time()
        match event:
            case NodeStarted(node=node):
                self._open[node] = now
            case NodeDone(node=node):
                self._end(node, display, now, "done")
            case NodeError(node=node):
                self._end(node, display, now, "failed")
            case NodeBlocked(node=node):
                self._end(node, display, now, "blocked")
            case NodeCached(node=node):
                self._end(node, display, now, "cached")
            case Progress(node=node, step=step, total=total) if step and len(self._steps) < MOST:
                self._steps.append((node, step, total, now))
            case ModelEvent(action=("loaded" | "paged" | "dropped") as action, seconds=seconds):
                if len(self._models) < MOST:
                    self._models.append((event.device, event.file, event.part, action, now - seconds, seconds))
            case PassesMade():
                self._count(event)
                self._costs.note(event)
            case NodeAnew(node=node):
                self._end(node, display, now, "anew")
                self._costs.note(event)

    def passes(self) -> dict[str, Any]:
        """`{rows, seconds, waited, devices}` of its forward passes; of each device the same, `sizes`, and `models`. And
        what was found out about sharing them, see `PassTally`."""
        return {**self._made, **self._costs.to_json(), "devices": self._devices}

    def to_json(self) -> str:
        """See `server/tracing/trace.py`, which reads it."""
        now = time.time()
        running = [(node, node, began, now - began, "running") for node, began in self._open.items()]
        found = {
            "pid": os.getpid(),
            "began": self._began,
            "ended": now,
            "nodes": [*self._nodes, *running],
            "steps": self._steps,
            "models": self._models,
            "passes": self._passes,
        }
        return json.dumps(found, separators=(",", ":"))

    def _end(self, node: str, display: str, now: float, state: str) -> None:
        began = self._open.pop(node, now)
        if len(self._nodes) < MOST:
            self._nodes.append((node, display, began, now - began, state))

    def _count(self, made: PassesMade) -> None:
        of = self._devices.setdefault(
            made.device, {"rows": 0, "seconds": 0.0, "waited": 0.0, "sizes": {}, "models": {}}
        )
        for total in (self._made, of):
            total["rows"] += made.rows
            total["seconds"] += made.seconds
            total["waited"] += made.waited
        for size, count in made.sizes.items():
            of["sizes"][str(size)] = of["sizes"].get(str(size), 0) + count
        for model, seconds in made.models.items():
            of["models"][model] = of["models"].get(model, 0.0) + seconds
        self._passes += [(made.device, *astuple(each)) for each in made.passes[: MOST - len(self._passes)]]
