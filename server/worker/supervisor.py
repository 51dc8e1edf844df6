"""Keeps one worker process alive, hands it prompts, several at a time, and reports how each ended; the event loop never
waits for the work.

A worker that dies is started again, later and later if it dies at once. A worker that is silent for the length of a
lease is taken for hung and killed. Silence is counted in ticks of this process, so neither a set clock nor a sleeping
machine ends a lease; nor does a machine whose processors are busy with other work, up to a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .attempt import Attempt, Crowded, Died, Finished, Outcome, Released, WorkerStatus
from .config import WorkerConfig
from .devices import DevicePlace
from .frames import pack, receive_async
from .starving import Starving

__all__ = ["Worker"]

log = logging.getLogger("graphflow.worker")

TICKS = 10
"""Looks at a worker in the length of a lease."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts to start a worker that dies at once."""
FIRST_WORD = 60.0
"""Seconds that a process may take to start Python; the lease begins with its first sign of life."""
MOST_STARVED = 4
"""Leases in which a silent process may starve: one that hangs beside much other work looks the same."""
FAREWELL = 2.0
"""Seconds that a process may take to end after its connection has."""


@dataclass(slots=True)
class _Process:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    silent: int = 0
    has_begun: bool = False
    """It has given a sign of life."""
    outcomes: dict[tuple[str, int], asyncio.Future[Outcome]] = field(default_factory=dict)
    """Of the attempts that it has."""
    killed_because: str | None = None
    culprit: str | None = None
    is_ending: bool = False
    """It has announced its end: what it was given since then has not begun."""
    status: dict[str, Any] = field(default_factory=dict)


class Worker:
    """One worker process at a time. All methods belong to the event loop that called `start()`."""

    def __init__(
        self,
        config: WorkerConfig,
        lock: Path,
        lease: float,
        on_frame: Callable[[dict[str, Any], bytes], None] = lambda *_: None,
        concurrency: int = 1,
        place: DevicePlace | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`concurrency`: how many prompts a process takes at a time. `place`: where it computes. `on_ready` is called
        when a process can take a prompt."""
        self.place = place or DevicePlace("local", None)
        self.lock = lock
        self._config = config if self.place.device is None else replace(config, device=self.place.device)
        self._lock, self._lease, self._on_frame = lock, lease, on_frame
        self._concurrency, self._on_ready = concurrency, on_ready
        self._ready = asyncio.Event()
        self._current: _Process | None = None
        self._stopping = asyncio.Event()
        self._previews = False
        self._starts = self._deaths = 0
        self._problems: tuple[dict[str, Any], ...] = ()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def status(self) -> WorkerStatus:
        now = self._current
        state = "stopped" if self._stopping.is_set() else "starting"
        if now is not None and self._ready.is_set():
            state = "running" if now.outcomes else "idle"
        status = now.status if now is not None else {}
        pid = now.process.pid if now is not None else None
        devices = tuple({**device, **self._index_of(device["index"])} for device in status.get("devices", ()))
        return WorkerStatus(
            state=state,
            pid=pid,
            starts=self._starts,
            deaths=self._deaths,
            rss=status.get("rss", 0),
            devices=devices,
            models=tuple({**model, "device": self._shown(model["device"])} for model in status.get("models", ())),
            problems=self._problems,
            name=self.place.name,
            prompts=tuple(prompt_id for prompt_id, _ in now.outcomes) if now is not None else (),
            silent=now.silent * self._lease / TICKS if now is not None else 0.0,
        )

    def _shown(self, device: str) -> str:
        """The name of a device on this machine: the process may see no other, and call it the first."""
        kind, _, index = device.partition(":")
        names = self.place.accelerators
        return names[int(index or 0)] if kind == "cuda" and names else device

    def _index_of(self, index: int) -> dict[str, int]:
        """The number on this machine of an accelerator that the process counts from 0."""
        names = self.place.accelerators
        return {"index": int(names[index].partition(":")[2])} if index < len(names) else {}

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="graphflow worker")

    @property
    def is_ready(self) -> bool:
        """Whether there is a process that can take a prompt."""
        return self._ready.is_set()

    async def run(self, job: Attempt) -> Outcome:
        """Let the worker run it, beside those that it has. Frames of the run go to `on_frame` before this returns."""
        now = self._current
        if now is None or not self._ready.is_set():
            return Released()
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        now.outcomes[job.key] = outcome
        texts = f'{{"workflow":{job.workflow_json},"extra":{job.extra_json}}}'.encode()
        self._send(
            now,
            texts,
            kind="run",
            prompt_id=job.prompt_id,
            epoch=job.epoch,
            targets=list(job.targets),
            client=job.client,
            passes=job.passes,
            compare=job.compare,
            likeness=job.likeness,
        )
        try:
            found: Outcome = await outcome
            return found
        finally:
            now.outcomes.pop(job.key, None)

    def cancel(self, prompt_id: str) -> None:
        """Ask the run of this prompt to end after its step; any other run goes on."""
        if self._current is not None:
            self._send(self._current, kind="cancel", prompt_id=prompt_id)

    def want_previews(self, wanted: bool) -> None:
        self._previews = wanted
        if self._current is not None and self._ready.is_set():
            self._send(self._current, kind="previews", wanted=wanted)

    def recycle(self) -> None:
        """End the idle worker, so that all memory goes back to the system; another one starts."""
        if self._current is not None and not self._current.outcomes:
            self._ready.clear()
            self._send(self._current, kind="stop")

    def kill(self, reason: str, culprit: str | None = None) -> None:
        """End the process now, whatever it does; because of this prompt, where it is one."""
        now = self._current
        if now is not None and now.process.returncode is None:
            if now.killed_because is None:
                now.killed_because, now.culprit = reason, culprit
            with contextlib.suppress(ProcessLookupError):
                now.process.send_signal(signal.SIGKILL)

    async def stop(self, within: float) -> None:
        """Let the run at hand keep its state and end; after `within` seconds, kill. No worker comes after it."""
        self._stopping.set()
        if self._current is not None:
            self._send(self._current, kind="stop")
        if self._keeper is not None:
            done, _ = await asyncio.wait([self._keeper], timeout=within)
            if not done:
                self.kill("it did not stop in time")
                await self._keeper

    # -- the life of a process --------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._live()
            except OSError as error:
                log.error("cannot start a worker: %s", error)
            lasted = asyncio.get_running_loop().time() - began
            pause = 0.0 if lasted > 10 else min(LONGEST_PAUSE, max(0.1, 2 * pause))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _live(self) -> None:
        """Start a process, and follow it to its end."""
        now = self._current = await self._spawn()
        watcher = asyncio.create_task(self._watch(now))
        try:
            while True:
                head, blob = await receive_async(now.reader)
                now.silent, now.has_begun = 0, True
                self._receive(now, head, blob)
        except EOFError:
            pass
        except Exception as error:  # not a word of ours: something else in that process has got hold of the socket
            log.exception("the worker process %d cannot be understood", now.process.pid)
            self.kill(f"it could not be understood: {error}")
        finally:
            self._ready.clear()
            watcher.cancel()
            code = await self._end_of(now)
            now.writer.close()
            self._current = None
        reason = _reason(code, now.killed_because)
        left = [key for key, outcome in now.outcomes.items() if not outcome.done()]
        ended = code == 0 and now.is_ending
        if code != 0 or (left and not ended):
            self._deaths += 1
            log.warning("the worker process %d has died: %s", now.process.pid, reason)
        for key in left:
            self._settle(now, key, Released() if ended else Died(reason, len(left), now.culprit))

    async def _end_of(self, now: _Process) -> int:
        """The exit code of a process whose connection has ended."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(now.process.wait(), FAREWELL)
        self.kill("its connection ended")
        return await now.process.wait()

    async def _spawn(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "graphflow_server.worker",
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    env={**os.environ, **self.place.environment},
                )
            except BaseException:
                ours.close()
                raise
        self._starts += 1
        reader, writer = await asyncio.open_connection(sock=ours)
        now = _Process(process, reader, writer)
        self._send(
            now,
            kind="setup",
            server=os.getpid(),
            lock=str(self._lock),
            alive_every=self._lease / TICKS,
            concurrency=self._concurrency,
            config=self._config.to_json(),
        )
        return now

    def _receive(self, now: _Process, head: dict[str, Any], blob: bytes) -> None:
        match head["kind"]:
            case "alive":
                now.status = head
            case "ready":
                self._problems = tuple(head["problems"])
                self._send(now, kind="previews", wanted=self._previews)
                if self._stopping.is_set():
                    self._send(now, kind="stop")
                else:
                    self._ready.set()
                    self._on_ready()
            case "finish":
                if head["ending"]:
                    self._end_announced(now)
                self._settle(now, _key(head), Finished(head["type"], head["data"], head["stats"], blob.decode()))
            case "released":
                self._end_announced(now)
                self._settle(now, _key(head), Released())
            case "crowded":
                if head["ending"]:
                    self._end_announced(now)
                self._settle(now, _key(head), Crowded())
            case _:
                self._on_frame(head, blob)

    def _end_announced(self, now: _Process) -> None:
        now.is_ending = True
        self._ready.clear()

    def _settle(self, now: _Process, key: tuple[str, int], outcome: Outcome) -> None:
        waiting = now.outcomes.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    async def _watch(self, now: _Process) -> None:
        """Kill it if it hangs. A child that it has left behind may keep its connection open: then its death ends
        that."""
        tick, starving, starved = self._lease / TICKS, Starving(now.process.pid), 0
        while True:
            await asyncio.sleep(tick)
            if now.process.returncode is not None:
                now.reader.feed_eof()
                return
            now.silent += 1
            if now.silent == 1:
                starved = 0
            if now.silent > 1 and starved < MOST_STARVED * TICKS and starving.has_starved(tick):
                starved, now.silent = starved + 1, max(1, now.silent - 1)
            patience = self._lease if now.has_begun else max(FIRST_WORD, self._lease)
            if now.silent > patience / tick:
                self.kill(f"it gave no sign of life for {patience:g} s")

    def _send(self, now: _Process, blob: bytes = b"", **head: Any) -> None:
        if not now.writer.is_closing():
            now.writer.write(pack(head, blob))


def _key(head: dict[str, Any]) -> tuple[str, int]:
    return head["prompt_id"], head["epoch"]


def _reason(code: int, because: str | None) -> str:
    if because is not None:
        return because
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"
