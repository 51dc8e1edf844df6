"""The program on another machine: it takes prompts of a server, has a worker process of its own run them, and hands
everything back: reports as they come, files before the reports that name them.

Whatever cuts it off from the server, its runs end with their state kept, and it comes back. What it missed is not its
business: the server has put its prompts back by then, and takes nothing more of those attempts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

import graphflow
from graphflow import GraphFlowError, Problem, Registry

from .attempt import Attempt, Crowded, Died, Finished, Outcome
from .blackbox import last_node
from .config import WorkerConfig
from .devices import DevicePlace
from .exchange import Exchange, Late
from .frames import pack, unpack
from .needs import models_named
from .packs import digests_of_types, versions
from .remote import PROTOCOL
from .supervisor import TICKS, Worker

__all__ = ["Agent"]

log = logging.getLogger("graphflow.worker")

LONGEST_PAUSE = 15.0
"""Seconds between two attempts to reach the server."""
LARGEST_FRAME = 256 << 20
LOCAL_LEASE = 30.0
MOST_WAITING = 2000
"""Reports of a run that wait to be sent; of those that pass, no more are kept."""
PASSING = ("progress", "texts", "preview")
FULL_DISK = re.compile(r"\[Errno (28|122)\]")
"""In the text of an error: no space, or no more of a quota. Another machine may have some."""


class Agent:
    """One worker for one device, and its connection. `folder` is its own: outputs wait there to be handed over."""

    def __init__(
        self,
        url: str,
        token: str | None,
        name: str,
        config: WorkerConfig,
        folder: Path,
        place: DevicePlace | None = None,
        concurrency: int = 1,
    ) -> None:
        self.name, self._concurrency = name, concurrency
        self._folder, self._instance = folder, secrets.token_hex(8)
        own = folder / f"run-{self._instance}"
        self._config = replace(
            config,
            output_dir=own / "output",
            temp_dir=own / "temp",
            input_dir=folder / "input",
            metadata=config.metadata,
        )
        self._url, self._token = url.rstrip("/"), token
        self._worker = Worker(
            self._config,
            folder / "worker.lock",
            LOCAL_LEASE,
            self._frame,
            concurrency,
            place=place,
            on_ready=self._alive,
        )
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._runs: dict[tuple[str, int], asyncio.Queue[tuple[dict[str, Any], bytes] | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = 0
        self._cancel_within = 30.0

    @property
    def is_connected(self) -> bool:
        """Whether a server has it at the moment."""
        return self._socket is not None

    async def serve(self) -> None:
        """Until it is cancelled. Raises GraphFlowError where the server refuses it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._folder.glob("run-*"):
            shutil.rmtree(left, ignore_errors=True)
        types = await asyncio.to_thread(lambda: digests_of_types(Registry.installed(self._config.nodes)))
        self._worker.start()
        pause = 0.0
        try:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._connected(types)
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                    log.warning("%s is out of reach: %s", self._url, error or type(error).__name__)
                finally:
                    self._socket = None
                    await self._end_runs()
                lasted = asyncio.get_running_loop().time() - began
                pause = 0.0 if lasted > LONGEST_PAUSE else min(LONGEST_PAUSE, max(0.25, 2 * pause))
                await asyncio.sleep(pause)
        finally:
            await self._worker.stop(within=8.0)
            shutil.rmtree(self._config.output_dir.parent, ignore_errors=True)

    # -- the connection ---------------------------------------------------------------------------------------------

    async def _connected(self, types: Mapping[str, str]) -> None:
        """One connection, from hello to its end."""
        while not self._worker.is_ready:
            await asyncio.sleep(0.05)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            try:
                socket = await session.ws_connect(
                    f"{self._url}/workers/connect", max_msg_size=LARGEST_FRAME, compress=0
                )
            except aiohttp.WSServerHandshakeError as error:
                if error.status in (401, 403, 404):
                    raise _not_let_in(self._url, error.status) from None
                raise
            async with socket:
                await self._greet(socket, types)
                self._exchange = Exchange(self._url, session, self._config.settings())
                await self._talk(socket)

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse, types: Mapping[str, str]) -> None:
        hello = {
            "kind": "hello",
            "protocol": PROTOCOL,
            "version": graphflow.__version__,
            "name": self.name,
            "instance": self._instance,
            "concurrency": self._concurrency,
            "types": dict(types),
            "versions": versions(),
        }
        await socket.send_bytes(pack(hello))
        message = await socket.receive(timeout=60)
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError(f"the server has hung up ({message.extra or message.data})")
        answer, _ = unpack(message.data)
        if answer["kind"] == "refused":
            problem = answer["problem"]
            raise GraphFlowError([Problem(problem["code"], problem["message"], hint=problem.get("hint"))])
        self._lease, self._cancel_within = float(answer["lease"]), float(answer["cancel_within"])
        log.info("connected to %s as %s", self._url, answer["name"])
        if answer["unlike"]:
            log.warning("%d node types are other than on the server: %s", len(answer["unlike"]), answer["unlike"][:5])
        if answer["other"]:
            log.warning(
                "other libraries than on the server, so results are cached apart: %s", ", ".join(answer["other"])
            )

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._silent, self._outgoing = 0, asyncio.Queue()
        self._socket = socket
        self._alive()
        works = [self._read(socket), self._write(socket), self._watch()]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._socket = None
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_bytes(await self._outgoing.get())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._lease / TICKS)
            self._alive()
            self._silent += 1
            if self._silent > TICKS:
                raise ConnectionError(f"the server gave no sign of life for {self._lease:g} s")

    def _alive(self) -> None:
        status = self._worker.status
        self._send(
            kind="alive",
            ready=self._worker.is_ready,
            rss=status.rss,
            starts=status.starts,
            deaths=status.deaths,
            devices=list(status.devices),
            models=list(status.models),
        )

    def _send(self, blob: bytes = b"", **head: Any) -> None:
        if self._socket is not None:
            self._outgoing.put_nowait(pack(head, blob))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            self._silent = 0
            if message.type is aiohttp.WSMsgType.BINARY:
                self._receive(*unpack(message.data))

    def _receive(self, head: dict[str, Any], blob: bytes) -> None:
        match head["kind"]:
            case "run":
                task = asyncio.create_task(self._attempt(head, blob))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "cancel":
                self._worker.cancel(head["prompt_id"])
            case "kill":
                self._worker.kill(head["reason"], head["culprit"])
            case "recycle":
                self._worker.recycle()
            case "previews":
                self._worker.want_previews(head["wanted"])

    # -- a run ------------------------------------------------------------------------------------------------------

    async def _attempt(self, head: dict[str, Any], blob: bytes) -> None:
        key = (str(head["prompt_id"]), int(head["epoch"]))
        about: dict[str, Any] = {"prompt_id": key[0], "epoch": key[1]}
        exchange = self._exchange
        try:
            given = json.loads(blob)
            unlike = await asyncio.to_thread(_unlike_model, head["models"], given["workflow"], self._config)
            if unlike is not None:
                self._send(kind="unfit", reason=unlike, **about)
                return
            await exchange.fetch(head["inputs"])
            reports = self._runs[key] = asyncio.Queue()
            sender = asyncio.create_task(self._hand_over(key, reports, exchange))
            outcome = await self._worker.run(_job(head, given))
            reports.put_nowait(None)
            await sender
            self._report(outcome, about)
        except Late as error:
            log.warning("prompt %s: %s", key[0], error)
            self._worker.cancel(key[0])
        except Exception as error:  # it cannot be fetched or handed over: not by this worker, or not on this connection
            reason = str(error) or type(error).__name__
            log.warning("prompt %s cannot be run for the server: %s", key[0], reason)
            self._worker.cancel(key[0])
            self._send(kind="unfit", reason=reason, **about)
        finally:
            self._runs.pop(key, None)
            await asyncio.to_thread(exchange.tidy, key[0])

    def _report(self, outcome: Outcome, about: dict[str, Any]) -> None:
        match outcome:
            case Finished("execution_error", data) if FULL_DISK.search(data["exception_message"]):
                self._send(kind="unfit", reason=f"its disk is full: {data['exception_message'].strip()}", **about)
            case Finished(kind, data, stats, trace):
                self._send(trace.encode(), kind="finish", type=kind, data=data, stats=stats, **about)
            case Crowded():
                self._send(kind="crowded", **about)
            case Died(reason, suspects, culprit):
                at = last_node(self._folder / "worker.lock", about["prompt_id"], about["epoch"])
                self._send(kind="died", reason=reason, suspects=suspects, culprit=culprit, at=at, **about)
            case _:
                self._send(kind="released", **about)

    def _frame(self, head: dict[str, Any], blob: bytes) -> None:
        """A report of the worker process about a run: into its line."""
        key = next((key for key in self._runs if key[0] == head["prompt_id"]), None)
        if key is None or head.get("epoch", key[1]) != key[1]:
            return
        if head["kind"] not in PASSING or self._runs[key].qsize() < MOST_WAITING:
            self._runs[key].put_nowait(({**head, "epoch": key[1]}, blob))

    async def _hand_over(
        self,
        key: tuple[str, int],
        reports: asyncio.Queue[tuple[dict[str, Any], bytes] | None],
        exchange: Exchange,
    ) -> None:
        """Send the reports of a run in their order, its files before those that name them. A failure ends the run, as
        it can give nothing back."""
        try:
            while (report := await reports.get()) is not None:
                head, blob = report
                if head["kind"] == "events":
                    head, blob = await exchange.with_files(head, blob)
                self._send(blob, **head)
        except BaseException:
            self._worker.cancel(key[0])
            raise

    async def _end_runs(self) -> None:
        """The server has put the prompts back: end them here, with their state kept; what does not notice is killed."""
        for prompt_id, _ in list(self._runs):
            self._worker.cancel(prompt_id)
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=self._cancel_within)
            if late:
                self._worker.kill("it did not stop when the server was out of reach", culprit="")
                await asyncio.wait(late, timeout=self._cancel_within)


def _job(head: dict[str, Any], given: dict[str, Any]) -> Attempt:
    return Attempt(
        prompt_id=head["prompt_id"],
        epoch=head["epoch"],
        targets=tuple(head["targets"]),
        workflow_json=json.dumps(given["workflow"]),
        extra_json=json.dumps(given["extra"]),
        client=head["client"],
        passes=head["passes"],
        compare=head.get("compare", 1),
        likeness=head.get("likeness", ""),
    )


def _unlike_model(wanted: Mapping[str, str], workflow: Mapping[str, Any], config: WorkerConfig) -> str | None:
    """The first model that is not the one that the server has under this name."""
    found = models_named(workflow, config.settings())
    for name, digest in wanted.items():
        if name not in found:
            return f"it lacks the model {name}"
        if found[name] != digest:
            return f"its file {name} is another one than the server's"
    return None


def _not_let_in(url: str, status: int) -> GraphFlowError:
    why = {401: "it wants its token", 403: "it does not answer for this host name", 404: "it takes no workers"}[status]
    hint = {401: "give it with --token-file FILE", 403: "start the server with --allow-host NAME"}.get(status)
    return GraphFlowError([Problem("not_let_in", f"{url} does not let this worker in: {why}", hint=hint)])
