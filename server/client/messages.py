"""ComfyUI's messages about one prompt, translated to the engine's own events.

The protocol reports when a node starts, and not always when it ends: a node is done when it shows something, when a
node that stands on it starts, or when the run ends. So the same events come out of a log that is read again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from graphflow import Event, Problem, Workflow
from graphflow.spi import NodeCached, NodeDone, NodeError, NodeStarted, Progress, RunDone, RunStarted, as_link

__all__ = ["ENDS", "Translation"]

ENDS = {"execution_success": "done", "execution_error": "failed", "execution_interrupted": "cancelled"}


class Translation:
    """Of one prompt."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.prompt_id = ""
        self.status: str | None = None
        """`done`, `failed` or `cancelled` once the prompt has ended."""
        self.problems: list[Problem] = []
        self.outputs: dict[str, dict[str, Any]] = {}
        self.cached: tuple[str, ...] = ()
        self.timings: dict[str, float] = {}
        self._began = time.perf_counter()
        self._running: dict[str, float] = {}
        self._display: dict[str, str] = {}
        self._ended: dict[str, float] = {}
        self._steps: dict[str, tuple[int, int]] = {}
        self._started = False
        self._has_ended = False

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def feed(self, kind: str, data: Mapping[str, Any]) -> Iterator[Event]:
        """The events that a message stands for."""
        match kind:
            case "execution_start":
                self._restart()
            case "execution_cached" if not self._started:
                self._started = True
                self.cached = tuple(data.get("nodes") or ())
                yield RunStarted(tuple(key for key in self.workflow if key not in self.cached), self.cached)
            case "execution_cached":
                for node in map(str, data.get("nodes") or ()):
                    if node not in self.cached:
                        self.cached = (*self.cached, node)
                        yield NodeCached(node, self.outputs.get(node))
            case "executing" if data.get("node") is not None:
                yield from self._executing(str(data["node"]), str(data.get("display_node") or data["node"]))
            case "progress":
                yield from self._progress(str(data.get("node")), data.get("value"), data.get("max"))
            case "progress_state":
                yield from self._states(data.get("nodes") or {})
            case "executed":
                yield from self._executed(str(data["node"]), data.get("output"))
            case "execution_error":
                yield from self._done_of(data)
                yield from self._error(data)
            case "execution_interrupted":
                yield from self._done_of(data)
                self.status = "cancelled"
            case "execution_success":
                self.status = self.status or "done"

    def preview(self, node: str | None, image: bytes) -> Iterator[Event]:
        """An image of what is being made; without a node, it is of the only one that runs."""
        if node is None and len(self._running) == 1:
            node = next(iter(self._running))
        if node in self._running and node in self._steps:
            yield Progress(node, *self._steps[node], lambda: image, self._shown(node))

    def end(self) -> Iterator[Event]:
        """The events that are left when the prompt is over; once."""
        if not self._has_ended and self.status is not None:
            self._has_ended = True
            if self.status == "done":
                yield from self._done(list(self._running))
            yield RunDone(self.status, self.seconds)

    def _restart(self) -> None:
        """A prompt that starts a second time (its server was restarted) is reported anew."""
        self._began = time.perf_counter()
        self._started = False
        for kept in (self._running, self._ended, self._steps, self.timings, self.outputs):
            kept.clear()

    def _executing(self, node: str, display: str) -> Iterator[Event]:
        if node in self._running or node in self.timings:
            return
        yield from self._done_before(display)
        self._running[node] = time.perf_counter()
        self._display[node] = display
        yield NodeStarted(node, self._shown(node))

    def _progress(self, node: str, value: Any, total: Any) -> Iterator[Event]:
        step = int(value or 0), int(total or 1)
        if node in self._running and step[0] > 0 and self._steps.get(node) != step:
            self._steps[node] = step
            yield Progress(node, *step, None, self._shown(node))

    def _states(self, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Event]:
        for node, state in nodes.items():
            if state.get("state") == "finished":
                self._ended.setdefault(node, time.perf_counter())
            elif state.get("state") == "running":
                yield from self._progress(node, state.get("value"), state.get("max"))

    def _executed(self, node: str, ui: dict[str, Any] | None) -> Iterator[Event]:
        if node in self.outputs or node in self.timings:
            return
        self.outputs[node] = ui or {}
        if node in self._running:
            yield from self._done([node])
        else:
            yield from self._done_before(node)
            if node not in self.cached:
                self.cached = (*self.cached, node)
            yield NodeCached(node, ui)

    def _done_before(self, node: str) -> Iterator[Event]:
        before = self._ancestors(node)
        yield from self._done([each for each in self._running if self._display[each] in before])

    def _done_of(self, data: Mapping[str, Any]) -> Iterator[Event]:
        """A run that ends early names the nodes that were done."""
        yield from self._done([node for node in map(str, data.get("executed") or ()) if node in self._running])

    def _done(self, nodes: list[str]) -> Iterator[Event]:
        for node in nodes:
            began = self._running.pop(node)
            self.timings[node] = max(0.0, self._ended.get(node, time.perf_counter()) - began)
            yield NodeDone(node, self.timings[node], self.outputs.get(node) or None, self._shown(node))

    def _error(self, data: Mapping[str, Any]) -> Iterator[Event]:
        self.status = "failed"
        found = data.get("problems") or [
            {
                "code": "node_failed",
                "node": data.get("node_id"),
                "message": f"{data.get('exception_type')}: {str(data.get('exception_message')).strip()}",
            }
        ]
        fields = Problem.__dataclass_fields__
        for item in found:
            problem = Problem(
                **{"code": "node_failed", "message": "", **{k: v for k, v in item.items() if k in fields}}
            )
            if problem in self.problems:
                continue
            self.problems.append(problem)
            if problem.node is not None:
                self._running.pop(problem.node, None)
                yield NodeError(problem.node, problem.to_json())

    def _shown(self, node: str) -> str | None:
        display = self._display.get(node, node)
        return None if display == node else display

    def _ancestors(self, node: str) -> set[str]:
        seen: set[str] = set()
        stack = [node]
        while stack:
            body = self.workflow.get(stack.pop())
            for value in body.inputs.values() if body is not None else ():
                link = as_link(value)
                if link is not None and link.node not in seen:
                    seen.add(link.node)
                    stack.append(link.node)
        return seen
