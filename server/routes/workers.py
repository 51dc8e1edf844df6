"""The workers: their list, those that join from other machines with the files they hand over, and when what of a prompt
ran on them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

import graphflow
from graphflow import Problem

from ..http.answers import answer, answer_made
from ..http.bodies import read_query
from ..http.paths import BadName, segments
from ..http.policies import READ, UPLOAD
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..protocol.answers import WorkersListed
from ..protocol.requests import FileRef, WorkerFileQuery
from ..queue.ledger import ELSEWHERE
from ..queue.uploads import put_file
from ..state import STATE, ServerState
from ..tracing.trace import chrome_trace
from ..worker import WorkerStatus
from ..worker.frames import pack, unpack
from ..worker.packs import digests_of_types, unlike_types, versions
from ..worker.remote import PROTOCOL, RemoteWorker
from .queueing import find_prompt

__all__ = ["ROUTES"]

log = logging.getLogger("graphflow.server")
LARGEST_FRAME = 256 << 20
HELLO_WITHIN = 30.0
"""Seconds."""
MOST_WORKERS = 2000
MOST_AT_A_TIME = 64
CHUNK = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:-]{0,79}")


async def get_workers(request: web.Request) -> web.Response:
    """The workers with what they have and hold, and what each of the first waiting prompts waits for."""
    queue = request.app[STATE].queue
    waits = await queue.waits()
    return answer({"workers": [_worker(status) for status in queue.workers], "waiting": waits})


def _worker(status: WorkerStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "state": status.state,
        "prompts": list(status.prompts),
        "models": [{name: model[name] for name in ("name", "part", "bytes", "device")} for model in status.models],
        "devices": list(status.devices),
        "memory": status.rss,
        "starts": status.starts,
        "deaths": status.deaths,
        "silent_seconds": status.silent,
        "problems": list(status.problems),
    }


async def get_trace(request: web.Request) -> web.Response:
    """The times of a prompt that has ended, for Perfetto."""
    prompt = await find_prompt(request)
    found = await request.app[STATE].queue.trace(prompt.id)
    if found is None:
        hint = "a prompt has them when it has run to its end"
        raise RequestRefused(404, Problem("no_trace", "there are no times of this prompt", hint=hint))
    return await answer_made(lambda: chrome_trace(prompt, json.loads(found)))


# -- workers of other machines ---------------------------------------------------------------------------------------


async def connect(request: web.Request) -> web.StreamResponse:
    """A worker joins, for as long as it is connected; see `server/worker/remote.py`."""
    state = request.app[STATE]
    ws = web.WebSocketResponse(max_msg_size=LARGEST_FRAME, compress=False)
    await ws.prepare(request)
    state.sockets.add(ws)
    try:
        hello = await _hello(ws)
        problem = _refused(hello, state)
        if problem is not None:
            await ws.send_bytes(pack({"kind": "refused", "problem": problem.to_json()}))
            await ws.close()
            return ws
        await _serve(ws, hello, state)
    except (ValueError, KeyError, TypeError, TimeoutError) as error:
        log.warning("a worker is sent away: %s", error)
        await ws.close(message=str(error)[:100].encode())
    finally:
        state.sockets.discard(ws)
    return ws


async def _hello(ws: web.WebSocketResponse) -> dict[str, Any]:
    """The first message: who it is."""
    message = await ws.receive(timeout=HELLO_WITHIN)
    if message.type is not WSMsgType.BINARY:
        raise ValueError("a worker begins with a frame")
    hello, _ = unpack(message.data)
    if hello["kind"] != "hello":
        raise ValueError("a worker begins with a hello")
    return hello


def _refused(hello: dict[str, Any], state: ServerState) -> Problem | None:
    """Why this worker may not join; None: it may."""
    if hello.get("protocol") != PROTOCOL or hello.get("version") != graphflow.__version__:
        return Problem(
            "other_version",
            f"the worker is graphflow {hello.get('version')}, this server is {graphflow.__version__}",
            hint="install the same version on both",
        )
    if not NAME.fullmatch(str(hello.get("name"))):
        return Problem("bad_name", "the name of a worker is up to 80 letters, digits and ._:-", input="--name")
    if len(list(state.queue.lanes)) >= MOST_WORKERS:
        return Problem("too_many_workers", f"{MOST_WORKERS} workers are there already")
    return None


async def _serve(ws: web.WebSocketResponse, hello: dict[str, Any], state: ServerState) -> None:
    """Let it run prompts until its connection ends."""
    queue, registry = state.queue, state.engine.registry
    ours = await asyncio.to_thread(digests_of_types, registry)
    unlike = unlike_types(ours, dict(hello["types"]))
    theirs = {name: str(found) for name, found in dict(hello["versions"]).items()}
    other = [
        f"{name} {theirs.get(name)} for {found}" for name, found in versions().items() if theirs.get(name) != found
    ]
    outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
    reason = "its connection ended"

    def hang_up(why: str) -> None:
        nonlocal reason
        reason = why
        outgoing.put_nowait(None)

    name = queue.lanes.free_name(f"{ELSEWHERE}{hello['name']}", str(hello["instance"]))
    worker = RemoteWorker(
        name=name,
        lease=queue.settings.lease,
        settings=state.engine.settings,
        send=outgoing.put_nowait,
        hang_up=hang_up,
        on_frame=queue.take_frame,
        unlike=unlike,
        on_ready=queue.look,
    )
    welcome = {"lease": queue.settings.lease, "cancel_within": queue.settings.cancel_within, "name": name}
    outgoing.put_nowait(pack({"kind": "welcome", **welcome, "unlike": sorted(unlike), "other": other}))
    lane = queue.lanes.join(
        name, worker, max(1, min(MOST_AT_A_TIME, int(hello["concurrency"]))), str(hello["instance"])
    )
    log.info("worker %s joins: %d node types unlike; %s", name, len(unlike), ", ".join(other) or "same libraries")
    queue.look()
    writer = asyncio.create_task(_write(ws, outgoing))
    reader = asyncio.create_task(_read(ws, worker))
    try:
        await asyncio.wait([writer, reader], return_when=asyncio.FIRST_COMPLETED)
        failed = reader.exception() if reader.done() and not reader.cancelled() else None
        reason = f"it could not be understood: {failed}" if failed is not None else reason
    finally:
        queue.lanes.leave(lane)
        worker.gone(reason)
        log.info("worker %s is gone: %s", name, reason)
        for task in (writer, reader):
            task.cancel()
        await asyncio.gather(writer, reader, return_exceptions=True)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1.0):
                await ws.close()


async def _write(ws: web.WebSocketResponse, outgoing: asyncio.Queue[bytes | None]) -> None:
    while (data := await outgoing.get()) is not None:
        await ws.send_bytes(data)


async def _read(ws: web.WebSocketResponse, worker: RemoteWorker) -> None:
    async for message in ws:
        if message.type is WSMsgType.BINARY:
            worker.receive(*unpack(message.data))


async def post_file(request: web.Request) -> web.Response:
    """A file that an attempt on another machine has written; refused when the attempt counts no more."""
    state, query = request.app[STATE], read_query(request, WorkerFileQuery)
    settings = state.engine.settings
    root = settings.temp_dir if query.type == "temp" else settings.output_dir
    try:
        parts = segments(query.subfolder)
        if len(segments(query.filename)) != 1:
            raise BadName("a file has a name without folders")
    except BadName as error:
        raise RequestRefused(400, Problem("bad_name", str(error), input="filename")) from None
    _check_counts(state, query)
    claim = settings.claims(query.prompt_id) / query.claim if query.claim and query.type == "output" else None
    folder = root.joinpath(*parts)
    await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
    content = await _received(request, root, state.options.limits.worker_file)
    try:
        _check_counts(state, query)  # no wait between this and the start of the thread
        name = await asyncio.to_thread(put_file, content, folder, query.filename, claim)
    finally:
        content.unlink(missing_ok=True)
    return answer({"filename": name, "subfolder": query.subfolder, "type": query.type})


def _check_counts(state: ServerState, query: WorkerFileQuery) -> None:
    if not state.queue.holds(query.prompt_id, query.epoch):
        raise RequestRefused(409, Problem("late", "this attempt at the prompt is over: its files are not taken"))


async def _received(request: web.Request, folder: Path, most: int) -> Path:
    """The body as a file on the disk of its folder."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    path, size = Path(name), 0
    try:
        with open(handle, "wb") as file:
            async for chunk in request.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > most:
                    raise RequestRefused(413, Problem("too_large", f"the file is larger than {most} bytes"))
                await asyncio.to_thread(file.write, chunk)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        os.chmod(path, 0o644)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


ROUTES = (
    Route("GET", "/workers", get_workers, READ, "The workers, and what waits for what", answer=WorkersListed),
    Route(
        "GET",
        "/prompts/{prompt_id}/trace",
        get_trace,
        READ,
        "The times of a prompt, for Perfetto",
        answer=dict[str, Any],
    ),
    Route("GET", "/workers/connect", connect, READ, "Websocket of a worker on another machine", statuses=(101,)),
    Route(
        "POST",
        "/workers/files",
        post_file,
        UPLOAD,
        "A file of a worker on another machine",
        query=WorkerFileQuery,
        answer=FileRef,
    ),
)
