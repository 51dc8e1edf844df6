"""What a run has to tell, on its way to the server. Telling never waits: what has happened is kept in order, while of
progress and previews only the newest of each node is kept, so a slow reader costs neither time nor memory."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any

from .frames import pack

__all__ = ["Outbox"]

PROGRESS_EVERY = 0.1
PREVIEW_EVERY = 0.25
"""Seconds between two of the same kind."""


class Outbox:
    """Thread-safe; a thread of its own does the sending (and the making of preview pictures)."""

    def __init__(self, sock: socket.socket, alive_every: float, status: Callable[[], dict[str, Any]]) -> None:
        self._sock, self._alive_every, self._status = sock, alive_every, status
        self._changed = Condition()
        self._frames: list[dict[str, Any]] = []
        self._progress: dict[str, dict[str, Any]] = {}
        self._previews: dict[str, tuple[dict[str, Any], Callable[[], bytes]]] = {}
        self._run: dict[str, Any] = {}
        self._told_progress = self._told_preview = self._told_alive = 0.0
        self._ending = False
        self.wants_previews = False
        self._thread = Thread(target=self._send, name="graphflow-outbox", daemon=True)
        self._thread.start()

    def begin(self, prompt_id: str, epoch: int) -> None:
        """What follows is about this run."""
        with self._changed:
            self._run = {"prompt_id": prompt_id, "epoch": epoch}

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """A state of the prompt; each arrives."""
        with self._changed:
            last = self._frames[-1] if self._frames else None
            if last is not None and last["kind"] == "events" and last["prompt_id"] == self._run.get("prompt_id"):
                last["events"].append([kind, data])
            else:
                self._frames.append({"kind": "events", **self._run, "events": [[kind, data]]})
            self._changed.notify()

    def progress(self, node: str, state: dict[str, Any]) -> None:
        """How far a node is; the newest counts. The end of a node with steps comes before what the nodes behind it tell."""
        with self._changed:
            self._progress[node] = state
            if state["state"] != "running":
                self._previews.pop(node, None)
                if state["max"] > 1:
                    self._frames.append({"kind": "progress", **self._run, "nodes": {node: self._progress.pop(node)}})
            self._changed.notify()

    def preview(self, node: str, metadata: dict[str, Any], make: Callable[[], bytes]) -> None:
        """A picture of a node's work, made only if it is sent."""
        if self.wants_previews:
            with self._changed:
                self._previews[node] = metadata, make
                self._changed.notify()

    def control(self, kind: str, **data: Any) -> None:
        """A frame about the run or the process; all that was told before it is sent before it."""
        with self._changed:
            if self._progress:
                self._frames.append(self._take_progress())
            self._previews.clear()
            self._frames.append({"kind": kind, **self._run, **data})
            self._changed.notify()

    def close(self) -> None:
        """Send what there is, then end."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _take_progress(self) -> dict[str, Any]:
        frame = {"kind": "progress", **self._run, "nodes": self._progress}
        self._progress = {}
        return frame

    def _send(self) -> None:
        try:
            while True:
                frames, preview, over = self._next()
                for frame in frames:
                    self._sock.sendall(pack(frame))
                if preview is not None:
                    self._send_preview(*preview)
                if over:
                    return
        except OSError:
            return  # the server is gone, and so will this process be: its reader sees it, too
        except BaseException:  # a process that cannot speak would be taken for hung, much later
            traceback.print_exc()
            os._exit(1)

    def _send_preview(self, metadata: dict[str, Any], make: Callable[[], bytes]) -> None:
        try:
            picture = make()
        except Exception:
            return  # a preview is a courtesy; the run does not depend on it
        self._sock.sendall(pack({"kind": "preview", **metadata}, picture))

    def _next(self) -> tuple[list[dict[str, Any]], tuple[dict[str, Any], Callable[[], bytes]] | None, bool]:
        """Wait for something to send: frames, perhaps a preview, and whether that is all for ever."""
        with self._changed:
            while True:
                now = time.monotonic()
                frames, self._frames = self._frames, []
                preview = None
                if self._progress and now - self._told_progress >= PROGRESS_EVERY:
                    frames.append(self._take_progress())
                    self._told_progress = now
                if self._previews and now - self._told_preview >= PREVIEW_EVERY:
                    preview = self._previews.pop(next(iter(self._previews)))
                    self._told_preview = now
                if now - self._told_alive >= self._alive_every:
                    frames.append({"kind": "alive", **self._status()})
                    self._told_alive = now
                if frames or preview or self._ending:
                    return frames, preview, self._ending
                due = [self._told_alive + self._alive_every]
                if self._progress:
                    due.append(self._told_progress + PROGRESS_EVERY)
                if self._previews:
                    due.append(self._told_preview + PREVIEW_EVERY)
                self._changed.wait(max(0.0, min(due) - now))
