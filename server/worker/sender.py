"""The reports of runs, on their way to the server. States are kept in order, while of progress, texts and previews
only the newest of each node is kept, so a slow reader costs neither time nor memory. Reporting never waits, but for
images that are results: each is kept, so a node that makes them faster than they are read waits for room."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

from .frames import pack

__all__ = ["RunSender", "Sender"]

PROGRESS_EVERY = 0.1
PREVIEW_EVERY = 0.25
"""Seconds between two of the same kind."""
MOST_IMAGES = 64 << 20
"""Bytes of images that wait."""
LONGEST_TEXT = 1 << 16

_Outgoing = tuple[dict[str, Any], bytes | bytearray]
"""A frame that waits; one of events has a bytearray, to which more can be added."""


_Run = tuple[str, int]
"""The id of a prompt, and the epoch of the attempt at it."""


class Sender:
    """Thread-safe; a thread of its own does the sending (and the making of preview images). `of` gives what a run
    reports by."""

    def __init__(self, sock: socket.socket, alive_every: float, status: Callable[[], dict[str, Any]]) -> None:
        self._sock, self._alive_every, self._status = sock, alive_every, status
        self._changed = Condition()
        self._frames: list[_Outgoing] = []
        self._images = 0
        self._texts: dict[_Run, dict[str, str]] = {}
        self._progress: dict[_Run, dict[str, dict[str, Any]]] = {}
        self._previews: dict[tuple[_Run, str], tuple[dict[str, Any], Callable[[], bytes]]] = {}
        self._sent_progress = self._sent_preview = self._sent_alive = 0.0
        self._ending = False
        self.wants_previews = False
        self._thread = Thread(target=self._send, name="graphflow-outbox", daemon=True)
        self._thread.start()

    def of(self, prompt_id: str, epoch: int) -> RunSender:
        """The reporter for the run of this attempt."""
        return RunSender(self, (prompt_id, epoch))

    def event(self, run: _Run, kind: str, data: dict[str, Any]) -> None:
        """A state of the prompt; each arrives, as the text that is stored: in ASCII, so a character is a byte."""
        text = json.dumps(data, separators=(",", ":")).encode()
        with self._changed:
            head, texts = self._frames[-1] if self._frames else ({}, b"")
            if isinstance(texts, bytearray) and (head["prompt_id"], head["epoch"]) == run:
                head["events"].append((kind, len(text)))
                texts += text
            else:
                self._frames.append(({"kind": "events", **_head(run), "events": [(kind, len(text))]}, bytearray(text)))
            self._changed.notify_all()

    def progress(self, run: _Run, node: str, state: dict[str, Any]) -> None:
        """How far a node is; the newest counts. The end of a node with steps comes before the reports of the nodes
        behind it."""
        with self._changed:
            self._progress.setdefault(run, {})[node] = state
            if state["state"] != "running":
                self._previews.pop((run, node), None)
                if state["max"] > 1:
                    ended = {node: self._progress[run].pop(node)}
                    self._frames.append(({"kind": "progress", **_head(run), "nodes": ended}, b""))
            self._changed.notify_all()

    def text(self, run: _Run, node: str, text: str) -> None:
        """A line about a node's work; the newest counts."""
        with self._changed:
            self._texts.setdefault(run, {})[node] = text[:LONGEST_TEXT]
            self._changed.notify_all()

    def image(self, metadata: dict[str, Any], image: bytes) -> None:
        """An image that is a result; each arrives, behind what was reported before it."""
        with self._changed:
            while self._images > MOST_IMAGES and self._thread.is_alive():
                self._changed.wait(0.1)
            self._images += len(image)
            self._frames.append(({"kind": "image", **metadata}, image))
            self._changed.notify_all()

    def preview(self, run: _Run, node: str, metadata: dict[str, Any], make: Callable[[], bytes]) -> None:
        """An image of a node's work, made only if it is sent."""
        if self.wants_previews:
            with self._changed:
                self._previews[run, node] = metadata, make
                self._changed.notify_all()

    def control(self, kind: str, **data: Any) -> None:
        """A frame about the process."""
        with self._changed:
            self._frames.append(({"kind": kind, **data}, b""))
            self._changed.notify_all()

    def end(self, run: _Run, kind: str, blob: bytes = b"", **data: Any) -> None:
        """The last frame about a run; all that was reported before it is sent before it, and nothing after it."""
        with self._changed:
            self._frames += self._take_progress(run)
            for key in [key for key in self._previews if key[0] == run]:
                del self._previews[key]
            self._frames.append(({"kind": kind, **_head(run), **data}, blob))
            self._changed.notify_all()

    def close(self) -> None:
        """Send what there is, then end."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(timeout=5)

    def _take_progress(self, run: _Run) -> list[_Outgoing]:
        """The progress of a run's nodes, in steps and in words."""
        taken = (("progress", "nodes", self._progress.pop(run, {})), ("texts", "texts", self._texts.pop(run, {})))
        return [({"kind": kind, **_head(run), key: found}, b"") for kind, key, found in taken if found]

    def _send(self) -> None:
        try:
            while True:
                frames, preview, over = self._next()
                for head, blob in frames:
                    self._sock.sendall(pack(head, blob))
                    if head["kind"] == "image":
                        self._sent(len(blob))
                if preview is not None:
                    self._send_preview(*preview)
                if over:
                    return
        except OSError:
            return  # the server is gone, and so will this process be: its reader sees it, too
        except BaseException:  # a process that cannot speak would be taken for hung, much later
            traceback.print_exc()
            os._exit(1)

    def _sent(self, size: int) -> None:
        with self._changed:
            self._images -= size
            self._changed.notify_all()

    def _send_preview(self, metadata: dict[str, Any], make: Callable[[], bytes]) -> None:
        try:
            image = make()
        except Exception:
            return  # a preview is a courtesy; the run does not depend on it
        self._sock.sendall(pack({"kind": "preview", **metadata}, image))

    def _next(self) -> tuple[list[_Outgoing], tuple[dict[str, Any], Callable[[], bytes]] | None, bool]:
        """Wait for something to send: frames, perhaps a preview, and whether that is all for ever."""
        with self._changed:
            while True:
                now = time.monotonic()
                frames, self._frames = self._frames, []
                preview = None
                if (self._progress or self._texts) and now - self._sent_progress >= PROGRESS_EVERY:
                    for run in self._progress.keys() | self._texts.keys():
                        frames += self._take_progress(run)
                    self._sent_progress = now
                if self._previews and now - self._sent_preview >= PREVIEW_EVERY:
                    preview = self._previews.pop(next(iter(self._previews)))
                    self._sent_preview = now
                if now - self._sent_alive >= self._alive_every:
                    frames.append(({"kind": "alive", **self._status()}, b""))
                    self._sent_alive = now
                if frames or preview or self._ending:
                    return frames, preview, self._ending
                due = [self._sent_alive + self._alive_every]
                if self._progress or self._texts:
                    due.append(self._sent_progress + PROGRESS_EVERY)
                if self._previews:
                    due.append(self._sent_preview + PREVIEW_EVERY)
                self._changed.wait(max(0.0, min(due) - now))


@dataclass(frozen=True, slots=True)
class RunSender:
    """The reporter of one run; see Sender."""

    sender: Sender
    run: _Run

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.sender.event(self.run, kind, data)

    def progress(self, node: str, state: dict[str, Any]) -> None:
        self.sender.progress(self.run, node, state)

    def text(self, node: str, text: str) -> None:
        self.sender.text(self.run, node, text)

    def image(self, metadata: dict[str, Any], image: bytes) -> None:
        self.sender.image(metadata, image)

    def preview(self, node: str, metadata: dict[str, Any], make: Callable[[], bytes]) -> None:
        self.sender.preview(self.run, node, metadata, make)

    def end(self, kind: str, blob: bytes = b"", **data: Any) -> None:
        self.sender.end(self.run, kind, blob, **data)


def _head(run: _Run) -> dict[str, Any]:
    return {"prompt_id": run[0], "epoch": run[1]}
