"""A place for a queue with cheap nodes, and short ways to say what runs there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig

NODES = Path(__file__).parents[2] / "data" / "queue_nodes"


@dataclass(frozen=True)
class Place:
    """The folders of one server."""

    root: Path

    def settings(self, debug: bool = False, **changes: Any) -> QueueSettings:
        worker = WorkerConfig(
            output_dir=self.root / "output",
            input_dir=self.root / "input",
            temp_dir=self.root / "output" / "temp",
            nodes=(NODES,),
            cache_dir=self.root / "cache",
            checkpoint_every=0.0,
            debug=debug,
        )
        return QueueSettings(self.root / "state", worker, **changes)

    def queue(self, **changes: Any) -> PromptQueue:
        return PromptQueue(self.settings(**changes))

    def files(self) -> list[str]:
        """What the text files in the output folder hold."""
        return sorted(path.read_text() for path in (self.root / "output").glob("**/*.txt"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def prompt() -> Callable[..., Submission]:
    """Makes a submission: `prompt(write="text")`, `prompt(misbehave="raise", prompt_id="a")`."""

    def make(**given: Any) -> Submission:
        nodes = {name: value for name, value in given.items() if name.split("_")[0] in _FIRST_INPUT}
        rest = {name: value for name, value in given.items() if name not in nodes}
        return Submission(_graph(nodes), **rest)

    return make


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a check. The limit ends one that hangs; it is no measure of speed."""
    return lambda check: asyncio.run(asyncio.wait_for(check, 300))


_FIRST_INPUT = {"write": "text", "misbehave": "how", "steps": "text", "deaf": "seconds"}


def _graph(nodes: dict[str, Any]) -> dict[str, Any]:
    """Each name is a node, its value the first input, or all inputs as a mapping; what is no output gets one."""
    made: dict[str, Any] = {}
    for name, value in nodes.items():
        kind = name.split("_")[0]
        inputs = value if isinstance(value, dict) else {_FIRST_INPUT[kind]: value}
        made[name] = {"class_type": kind.capitalize(), "inputs": inputs}
        if kind != "write":
            made[f"{name}_out"] = {"class_type": "Write", "inputs": {"text": [name, 0]}}
    return made
