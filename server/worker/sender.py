"""The reports of a run, on their way to the server. States are kept in order, while of progress, texts and previews
only the newest of each node is kept, so a slow reader costs neither time nor memory. Reporting never waits, but for
images that are results: each is kept, so a node that makes them faster than they are read waits for room."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any

from .frames import pack

__all__ = ["Sender"]

PROGRESS_EVERY = 0.1
PREVIEW_EVERY = 0.25
"""Seconds between two of the same kind."""
MOST_IMAGES = 64 << 20
"""Bytes of images that wait."""
LONGEST_TEXT = 1 << 16

_Outgoing = tuple[dict[str, Any], bytes | bytearray]
"""A frame that waits; one of events has a bytearray, to which more can be added."""


class Sender:
    """Thread-safe; a thread of its own does the sending (and the making of preview images)."""

    def __init__(self, sock: socket.socket, alive_every: float, status: Callable[[], dict[str, Any]]) -> None:
        self._sock, self._alive_every, self._status = sock, alive_every, status
        self._changed = Condition()
        self._frames: list[_Outgoing] = []
        self._images = 0
        self._texts: dict[str, str] = {}
        self._progress: dict[str, dict[str, Any]] = {}
        self._previews: dict[str, tuple[dict[str, Any], Callable[[], bytes]]] = {}
        self._run: dict[str, Any] = {}
        self._sent_progress = self._sent_preview = self._sent_alive = 0.0
        self._ending = False
        self.wants_previews = False
        self._thread = Thread(target=self._send, name="graphflow-outbox", daemon=True)
        self._thread.start()

    def begin(self, prompt_id: str, epoch: int) -> None:
        """The reports that follow are about this run."""
        with self._changed:
            self._run = {"prompt_id": prompt_id, "epoch": epoch}

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """A state of the prompt; each arrives, as the text that is stored: in ASCII, so a character is a byte."""
        text = json.dumps(data, separators=(",", ":")).encode()
        with self._changed:
            head, texts = self._frames[-1] if self._frames else ({}, b"")
            if isinstance(texts, bytearray) and head["prompt_id"] == self._run.get("prompt_id"):
                head["events"].append((kind, len(text)))
                texts += text
            else:
                self._frames.append(({"kind": "events", **self._run, "events": [(kind, len(text))]}, bytearray(text)))
            self._changed.notify_all()

    def progress(self, node: str, state: dict[str, Any]) -> None:
        """How far a node is; the newest counts. The end of a node with steps comes before the reports of the nodes
        behind it."""
        with self._changed:
            self._progress[node] = state
            if state["state"] != "running":
                self._previews.pop(node, None)
                if state["max"] > 1:
                    ended = {node: self._progress.pop(node)}
                    self._frames.append(({"kind": "progress", **self._run, "nodes": ended}, b""))
            self._changed.notify_all()

    def text(self, node: str, text: str) -> None:
        """A line about a node's work; the newest counts."""
        with self._changed:
            self._texts[node] = text[:LONGEST_TEXT]
            self._changed.notify_all()

    def image(self, metadata: dict[str, Any], image: bytes) -> None:
        """An image that is a result; each arrives, behind what was reported before it."""
        with self._changed:
            while self._images > MOST_IMAGES and self._thread.is_alive():
                self._changed.wait(0.1)
            self._images += len(image)
            self._frames.append(({"kind": "image", **metadata}, image))
            self._changed.notify_all()

    def preview(self, node: str, metadata: dict[str, Any], make: Callable[[], bytes]) -> None:
        """An image of a node's work, made only if it is sent."""
        if self.wants_previews:
            with self._changed:
                self._previews[node] = metadata, make
                self._changed.notify_all()

    def control(self, kind: str, **data: Any) -> None:
        """A frame about the run or the process; all that was reported before it is sent before it."""
        with self._changed:
            self._frames += self._take_progress()
            self._previews.clear()
            self._frames.append(({"kind": kind, **self._run, **data}, b""))
            self._changed.notify_all()

    def close(self) -> None:
        """Send what there is, then end."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(timeout=5)

    def _take_progress(self) -> list[_Outgoing]:
        """The progress of the nodes, in steps and in words."""
        taken = (("progress", "nodes", self._progress), ("texts", "texts", self._texts))
        self._progress, self._texts = {}, {}
        return [({"kind": kind, **self._run, key: found}, b"") for kind, key, found in taken if found]

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
                    frames += self._take_progress()
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
