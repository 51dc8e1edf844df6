"""The progress of the running prompt: kept in memory, merged to one state a node, for whoever comes in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .records import Prompt, QueueEvent
from .texts import dump

__all__ = ["RunProgress"]

SMALL = 64
"""Nodes."""


class RunProgress:
    """The prompt that runs at the moment, of so many nodes."""

    def __init__(self, prompt: Prompt, nodes: int) -> None:
        self.prompt = prompt
        self._nodes: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, dict[str, Any]] = {}
        self._is_small = nodes <= SMALL

    def state(self) -> QueueEvent:
        """A `progress_state` message of the state at this moment, by node:

        `{id: {value, max, state, node_id, display_node_id, parent_node_id, real_node_id, prompt_id}}`: the nodes at
        work and, of a small graph, those that have ended, from which an editor reckons how much of the whole is done.
        """
        return self._event("progress_state", {"prompt_id": self.prompt.id, "nodes": {**self._ended, **self._nodes}})

    def progress(self, changed: dict[str, dict[str, Any]]) -> Iterator[QueueEvent]:
        """Take in what has changed; the messages for it. The end of a node of a large graph is reported once: the cost
        is linear in the graph."""
        steps: dict[str, tuple[int, int]] = {}
        for node, state in changed.items():
            if state["state"] == "running":
                self._nodes[node] = state
                if state["value"] > 0:
                    steps[node] = state["value"], state["max"]
                continue
            before = self._nodes.pop(node, None)
            if self._is_small:
                self._ended[node] = state
            # Its last steps may have been merged with its end; a bar that stops short of it would never fill.
            if state["state"] == "finished" and state["max"] > 1 and (before is None or before["value"] < state["max"]):
                steps[node] = state["max"], state["max"]
        nodes = {**self._ended, **self._nodes, **changed}
        yield self._event("progress_state", {"prompt_id": self.prompt.id, "nodes": nodes})
        for node, (value, most) in steps.items():
            yield self._event("progress", {"value": value, "max": most, "prompt_id": self.prompt.id, "node": node})

    def _event(self, kind: str, data: dict[str, Any], blob: bytes = b"") -> QueueEvent:
        return QueueEvent(self.prompt.id, None, kind, dump(data), self.prompt.client_id, blob)

    def preview(self, metadata: dict[str, Any], image: bytes) -> QueueEvent:
        return self._event("preview", metadata, image)

    def image(self, metadata: dict[str, Any], image: bytes) -> QueueEvent:
        return self._event("image", metadata, image)

    def text(self, node: str, text: str) -> QueueEvent:
        return self._event("text", {"prompt_id": self.prompt.id, "node": node, "text": text})

    def stats(self, stats: dict[str, Any], state: str) -> QueueEvent:
        return self._event("run_stats", {"prompt_id": self.prompt.id, "state": state, **stats})
