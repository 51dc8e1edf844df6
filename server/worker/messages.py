"""The engine's events in ComfyUI's words."""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from threading import Lock
from typing import Any

from graphflow import Event, GraphFlowError, Workflow
from graphflow.spi import (
    Message,
    ModelEvent,
    NodeBlocked,
    NodeCached,
    NodeDone,
    NodeError,
    NodeStarted,
    Picture,
    Progress,
    RunStarted,
    Text,
)

from ..protocol.words import MESSAGE_TYPES
from .folder_names import FolderNames
from .sender import RunSender
from .times import RunTimes

__all__ = ["RunMessages"]

OURS = MESSAGE_TYPES | {"preview", "run_stats"}
"""Types of the protocol itself, which a node cannot send."""
MOST_MESSAGES = 1000
"""Messages of a run's nodes that are kept and passed on."""
MOST_LINES = 60
"""Of a trace; a line is a call and the code of it."""
LONGEST_TEXT = 500
"""Characters of a value that is shown as text."""


class RunMessages:
    """Hands the events of one run to a sender, and calls `at(node, display)` before each node. `on_event` is called
    from any thread.

    Texts of failures have the names of `places` for the folders of this machine.
    """

    def __init__(
        self, prompt_id: str, workflow: Workflow, outbox: RunSender, places: FolderNames, at: Callable[[str, str], None]
    ) -> None:
        self._at, self._places = at, places
        self._prompt_id, self._workflow, self._out = prompt_id, workflow, outbox
        self._lock = Lock()
        self._running: dict[str, str] = {}
        self._executed: list[str] = []
        self._errors: list[dict[str, Any]] = []
        self._began = time.perf_counter()
        self._cached = 0
        self._known: set[str] = set()
        """The nodes that were cached when the run started."""
        self._steps = 0
        self._last_step: dict[str, int] = {}
        self.wants_previews = True
        """Whether the sender of the prompt wants to see how its images come to be; results are sent in any case."""
        self._messages = 0
        self._total: dict[str, int] = {}
        self._calls: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._models: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Device -> what it did with models -> how often."""
        self._read: Counter[str] = Counter()
        """Device -> bytes of models that it loaded."""
        self.times = RunTimes()

    def on_event(self, event: Event) -> None:
        display = str(getattr(event, "display", None) or getattr(event, "node", ""))
        if isinstance(event, Picture):  # it may take a while, in which other nodes report
            self._image(event, display)
            return
        with self._lock:
            self.times.note(event, display)
            match event:
                case RunStarted(cached=cached):
                    self._known = set(cached)
                    self._out.event("execution_cached", self._data(nodes=list(cached), timestamp=_now_ms()))
                case NodeStarted(node=node):
                    self._at(node, display)
                    self._running[node] = display
                    self._out.event("executing", self._data(node=node, display_node=display))
                    self._out.progress(node, self._state(node, display, 0, 1, "running"))
                case Progress(node=node, step=step, total=total, preview=preview):
                    self._steps += max(0, step - self._last_step.get(node, step))
                    self._last_step[node], self._total[node] = step, total
                    self._out.progress(node, self._state(node, display, step, total, "running"))
                    if preview is not None and self.wants_previews:
                        self._out.preview(node, {**self._names(node, display), "image_type": "image/jpeg"}, preview)
                case NodeDone(node=node, seconds=seconds, ui=ui):
                    self._count(node, display, seconds)
                    self._end(node, display, "finished")
                    self._show(node, display, ui)
                case NodeBlocked(node=node):
                    self._end(node, display, "finished")
                case NodeCached(node=node, ui=ui):
                    self._cached += 1
                    self._running.pop(node, None)
                    self._show(node, display, ui)
                    if node not in self._known:  # found while the run goes on
                        self._out.event("execution_cached", self._data(nodes=[node], timestamp=_now_ms()))
                case Message(type=kind, data=data) if kind not in OURS and self._messages < MOST_MESSAGES:
                    self._messages += 1
                    self._out.event(kind, _plain(data if isinstance(data, dict) else {"value": data}))
                case ModelEvent(action=action, bytes=size, device=device):
                    self._models[device][action] += 1
                    self._read[device] += size if action in ("loaded", "paged") else 0
                case Text(node=node, text=text):
                    self._out.text(node, text)
                case NodeError(node=node, problem=problem):
                    self._end(node, display, "error")
                    self._errors.append(problem)

    # -- the last message -------------------------------------------------------------------------------------------

    def success(self) -> tuple[str, dict[str, Any]]:
        return "execution_success", self._data(timestamp=_now_ms())

    def interrupted(self) -> tuple[str, dict[str, Any]]:
        node = next(iter(self._running), None)
        return "execution_interrupted", self._data(
            node_id=node, node_type=self._type(node), executed=self._executed, timestamp=_now_ms()
        )

    def failed(self, error: BaseException) -> tuple[str, dict[str, Any]]:
        """One message for the run, about its first failure; `problems` has all of them."""
        found = [problem.to_json() for problem in error.problems] if isinstance(error, GraphFlowError) else []
        problems = [self._placed(problem) for problem in found]
        first = self._placed((self._errors or problems or [{"message": str(error)}])[0])
        node = first.get("node") or next(iter(self._running), None)
        kind, message = first.get("code") or type(error).__name__, first["message"]
        if kind == "node_failed":  # such a message is that of an exception: "ValueError: ..."
            kind, _, message = message.partition(": ")
        inputs = self._workflow[node].inputs if node is not None and node in self._workflow else {}
        return "execution_error", self._data(
            node_id=node,
            node_type=self._type(node),
            executed=self._executed,
            exception_message=message + (f" ({first['hint']})" if first.get("hint") else "") + "\n",
            exception_type=kind,
            traceback=[] if self._places.hides_traces else _trace(error),
            current_outputs=[],
            timestamp=_now_ms(),
            problems=problems,
            current_inputs={name: [_short(value)] for name, value in inputs.items() if not isinstance(value, list)},
        )

    def stats(self) -> dict[str, Any]:
        """Numbers for the metrics: seconds and calls by node type, nodes that were cached, sampler steps, and what
        devices did with models."""
        nodes = {kind: {"calls": count, "seconds": self._seconds[kind]} for kind, count in self._calls.items()}
        seconds = time.perf_counter() - self._began
        models = {
            device: {"actions": dict(actions), "bytes": self._read[device]} for device, actions in self._models.items()
        }
        found = {"seconds": seconds, "cached": self._cached, "steps": self._steps, "nodes": nodes, "models": models}
        return {**found, "passes": self.times.passes()}

    # -- parts ------------------------------------------------------------------------------------------------------

    def _data(self, **data: Any) -> dict[str, Any]:
        return {"prompt_id": self._prompt_id, **data}

    def _placed(self, problem: dict[str, Any]) -> dict[str, Any]:
        texts = {key: self._places.without(problem[key]) for key in ("message", "hint") if problem.get(key)}
        if problem.get("code") == "node_failed" and str(problem.get("hint", "")).startswith("at "):
            texts["hint"] = ""  # where in its code a node raised is for this machine, not for clients
        return {key: value for key, value in {**problem, **texts}.items() if (key, value) != ("hint", "")}

    def _names(self, node: str, display: str) -> dict[str, Any]:
        return {
            "node_id": node,
            "prompt_id": self._prompt_id,
            "display_node_id": display,
            "real_node_id": node,
            "parent_node_id": None if display == node else display,
        }

    def _state(self, node: str, display: str, value: float, total: float, state: str) -> dict[str, Any]:
        return {"value": value, "max": total, "state": state, **self._names(node, display)}

    def _end(self, node: str, display: str, state: str) -> None:
        self._running.pop(node, None)
        total = self._total.get(node, 1)
        self._out.progress(node, self._state(node, display, total, total, state))

    def _image(self, image: Picture, display: str) -> None:
        metadata = {**self._names(image.node, display), "image_type": image.type}
        if image.is_result:
            self._out.image(metadata, image.make())
        elif self.wants_previews:
            self._out.preview(image.node, metadata, image.make)

    def _count(self, node: str, display: str, seconds: float) -> None:
        self._executed.append(node)
        kind = self._type(node) or self._type(display) or "?"
        self._calls[kind] += 1
        self._seconds[kind] += seconds

    def _show(self, node: str, display: str, ui: dict[str, Any] | None) -> None:
        if ui is not None:
            self._out.event("executed", self._data(node=node, display_node=display, output=_plain(_public(ui))))

    def _type(self, node: str | None) -> str | None:
        return self._workflow[node].class_type if node is not None and node in self._workflow else None


def _public(ui: dict[str, Any]) -> dict[str, Any]:
    """Without the paths of this machine: a file is named by filename, subfolder and type."""
    return {
        key: [{k: v for k, v in item.items() if k != "path"} if isinstance(item, dict) else item for item in items]
        if isinstance(items, (list, tuple))
        else items
        for key, items in ui.items()
    }


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it; what JSON has no word for, as text."""
    try:
        found: dict[str, Any] = json.loads(json.dumps(value, default=str, allow_nan=False))
        return found
    except (TypeError, ValueError, RecursionError):
        return {"text": [repr(value)[:LONGEST_TEXT]]}


def _trace(error: BaseException) -> list[str]:
    """The trace of what a node raised, as Python prints it: its last lines."""
    return traceback.format_exception(error.__cause__ or error)[-MOST_LINES:]


def _short(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)[:LONGEST_TEXT]


def _now_ms() -> int:
    return int(time.time() * 1000)
