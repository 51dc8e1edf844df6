"""A worker on another machine, as the server sees it: the frames of a local one, over a websocket.

The connection is the lease. Both sides send a sign of life ten times in its length; a worker that is silent for longer,
or whose connection ends, has lost its prompts: they are put back, under a new epoch, and whatever it still sends counts
no more. Silence is counted in ticks of this process, so clocks need not agree.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

from graphflow import Settings

from .attempt import Attempt, Crowded, Died, Finished, Lost, Outcome, Released, Unfit, WorkerStatus
from .frames import pack
from .needs import inputs_named, models_named
from .supervisor import TICKS

__all__ = ["PROTOCOL", "RemoteWorker"]

PROTOCOL = 1
"""Of the frames between a server and workers on other machines."""
MOST_LISTED = 1000


class RemoteWorker:
    """Belongs to the event loop. `send` puts a message on its way and never waits; `hang_up` ends the connection."""

    def __init__(
        self,
        name: str,
        lease: float,
        settings: Settings,
        send: Callable[[bytes], None],
        hang_up: Callable[[str], None],
        on_frame: Callable[[dict[str, Any], bytes], None],
        unlike: frozenset[str] = frozenset(),
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`unlike`: node types of which it has other code. `settings`: the folders of this server."""
        self.name, self._lease, self._settings, self._unlike = name, lease, settings, unlike
        self._send_bytes, self._hang_up, self._on_frame = send, hang_up, on_frame
        self._on_ready = on_ready
        self._outcomes: dict[tuple[str, int], asyncio.Future[Outcome]] = {}
        self._status: dict[str, Any] = {}
        self._silent = 0
        self._is_gone = False
        self._is_ready = True
        self._watcher = asyncio.create_task(self._watch(), name=f"graphflow lease of {name}")

    @property
    def is_ready(self) -> bool:
        return self._is_ready and not self._is_gone

    @property
    def status(self) -> WorkerStatus:
        said = self._status
        return WorkerStatus(
            state="stopped" if self._is_gone else "running" if self._outcomes else "idle",
            pid=None,
            starts=_count(said.get("starts")),
            deaths=_count(said.get("deaths")),
            rss=_count(said.get("rss")),
            devices=_listed(said.get("devices")),
            models=_models(said.get("models")),
            name=self.name,
            prompts=tuple(prompt_id for prompt_id, _ in self._outcomes),
            silent=self._silent * self._lease / TICKS,
        )

    async def run(self, job: Attempt) -> Outcome:
        """Let it run a prompt; `Unfit` where it has other nodes or other models than this server."""
        workflow = json.loads(job.workflow_json)
        unlike = sorted(
            {str(node.get("class_type")) for node in workflow.values() if isinstance(node, dict)} & self._unlike
        )
        if unlike:
            return Unfit(f"it lacks these nodes, or has other code of them: {', '.join(unlike[:5])}")
        inputs = await asyncio.to_thread(inputs_named, workflow, self._settings)
        models = await asyncio.to_thread(models_named, workflow, self._settings)
        if not self.is_ready:
            return Released()
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._outcomes[job.key] = outcome
        texts = f'{{"workflow":{job.workflow_json},"extra":{job.extra_json}}}'.encode()
        self._send(
            texts,
            kind="run",
            prompt_id=job.prompt_id,
            epoch=job.epoch,
            targets=list(job.targets),
            client=job.client,
            passes=job.passes,
            compare=job.compare,
            likeness=job.likeness,
            inputs=inputs,
            models=models,
        )
        try:
            return await outcome
        finally:
            self._outcomes.pop(job.key, None)

    def receive(self, head: dict[str, Any], blob: bytes) -> None:
        """A message of the worker. Raises ValueError or KeyError where it is not one of the protocol."""
        self._silent = 0
        match head["kind"]:
            case "alive":
                self._status = head
                was_ready, self._is_ready = self._is_ready, bool(head.get("ready", True))
                if self._is_ready and not was_ready:
                    self._on_ready()
            case "finish":
                self._settle(head, Finished(str(head["type"]), dict(head["data"]), dict(head["stats"]), blob.decode()))
            case "released":
                self._is_ready = False  # the process there has ended or is ending; a sign of life reports the next one
                self._settle(head, Released())
            case "crowded":
                self._settle(head, Crowded())
            case "unfit":
                self._settle(head, Unfit(str(head["reason"])[:500]))
            case "died":
                at = head.get("at")
                node = (str(at[0]), str(at[1])) if isinstance(at, list) and len(at) == 2 else None
                reason, culprit = str(head["reason"])[:500], head.get("culprit")
                self._is_ready = False
                self._settle(head, Died(reason, int(head["suspects"]), culprit, node))
            case "events" | "progress" | "preview" | "image" | "texts":
                if (head["prompt_id"], head.get("epoch")) in self._outcomes:
                    self._on_frame(head, blob)
            case _:
                raise ValueError(f"{head['kind']!r} is not a kind of frame")

    def gone(self, reason: str) -> None:
        """The connection has ended: it has no prompts any more."""
        self._is_gone = True
        self._watcher.cancel()
        for outcome in list(self._outcomes.values()):
            if not outcome.done():
                outcome.set_result(Lost(reason))

    def cancel(self, prompt_id: str) -> None:
        self._send(kind="cancel", prompt_id=prompt_id)

    def kill(self, reason: str, culprit: str | None = None) -> None:
        """End its process because of this prompt; without one, end the connection."""
        if culprit is None:
            self._hang_up(reason)
        else:
            self._send(kind="kill", reason=reason, culprit=culprit)

    def recycle(self) -> None:
        self._send(kind="recycle")

    def want_previews(self, wanted: bool) -> None:
        self._send(kind="previews", wanted=wanted)

    async def stop(self, within: float) -> None:
        """This server ends: the worker keeps the state of what it runs, and comes back when there is a server again."""
        self._is_gone = True
        self._watcher.cancel()
        for outcome in list(self._outcomes.values()):
            if not outcome.done():
                outcome.set_result(Released())
        self._hang_up("the server is shutting down")

    def _settle(self, head: dict[str, Any], outcome: Outcome) -> None:
        waiting = self._outcomes.get((head["prompt_id"], head["epoch"]))
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._lease / TICKS)
            self._send(kind="alive")
            self._silent += 1
            if self._silent > TICKS:
                self._hang_up(f"it gave no sign of life for {self._lease:g} s")

    def _send(self, blob: bytes = b"", **head: Any) -> None:
        if not self._is_gone:
            self._send_bytes(pack(head, blob))


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0


def _listed(value: object) -> tuple[dict[str, Any], ...]:
    return tuple(item for item in value[:MOST_LISTED] if isinstance(item, dict)) if isinstance(value, list) else ()


def _models(value: object) -> tuple[dict[str, Any], ...]:
    wanted = ("name", "part", "format", "bytes", "device")
    return tuple({name: item.get(name, 0 if name == "bytes" else "") for name in wanted} for item in _listed(value))
