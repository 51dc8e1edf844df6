"""Following a prompt to its end, whatever happens to the connection.

Our server keeps a numbered log of every prompt: events come from it, each once, also across restarts of the server; the
websocket adds progress and images, which may be lost. Other servers send everything by the websocket alone; there the
history, asked now and then, has what was lost with a connection.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp

from graphflow import Event, GraphFlowError, Problem

from .http import Connection, NotOffered
from .messages import ENDS, Translation

__all__ = ["FIRST_PAUSE", "MISSES", "MessageStream", "follow", "lost", "patiently", "reached"]

T = TypeVar("T")
LIVE = ("progress", "progress_state")
"""Message types that a log does not have."""
LONG_POLL, HISTORY_POLL = 25.0, 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
MISSES = 3
"""How often in a row a prompt may be neither in the queue nor in the history (it moves from one to the other)."""


class MessageStream:
    """The websocket of one prompt, opened again when it breaks; an async context manager.

    Entering waits for the first attempt, so that a prompt that is posted afterwards is heard of from its start.
    """

    def __init__(self, server: Connection, client_id: str, prompt_id: str | None) -> None:
        self.messages: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        """(type, data) as they come; an image is (`preview`, (node or None, bytes)), the end is (``, None)."""
        self.over = asyncio.Event()
        """Set when the server reports that a prompt is over."""
        self._server, self._client_id, self._prompt_id = server, client_id, prompt_id
        self._tried = asyncio.Event()

    async def __aenter__(self) -> MessageStream:
        self._task = asyncio.create_task(self._listen())
        await self._tried.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._server.socket(self._client_id, self._prompt_id) as socket:
                    await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                    self._tried.set()
                    pause = FIRST_PAUSE
                    async for message in socket:
                        for item in _read(message):
                            self.messages.put_nowait(item)
                            if item[0] == "executing" and item[1].get("node") is None:
                                self.over.set()
            except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError):
                pass  # without it, progress is missed and nothing else
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _read(message: aiohttp.WSMessage) -> Iterator[tuple[str, Any]]:
    if message.type is aiohttp.WSMsgType.TEXT:
        body = json.loads(message.data)
        if isinstance(body, dict) and isinstance(body.get("data"), dict):
            yield str(body.get("type")), body["data"]
    elif message.type is aiohttp.WSMsgType.BINARY and len(message.data) > 8:
        kind, length = struct.unpack(">II", message.data[:8])
        if kind == 1:  # `length` is the format of the image here
            yield "preview", (None, message.data[8:])
        elif kind == 4:
            about = json.loads(message.data[8 : 8 + length])
            yield "preview", (str(about.get("node_id")), message.data[8 + length :])


async def follow(
    server: Connection, prompt_id: str, live: MessageStream, translation: Translation, patience: float
) -> AsyncGenerator[Event, None]:
    """The events of a prompt that was posted; the last is a RunDone.

    Raises GraphFlowError where the server does not answer for `patience` seconds, or has lost the prompt.
    """
    try:
        first = await patiently(lambda: server.log(prompt_id, 0, 0), patience)
        trusted, source = LIVE, _log(server, prompt_id, live, first, patience)
    except NotOffered:
        trusted, source = None, _history(server, prompt_id, live, patience)
    certain = asyncio.create_task(source)
    certain.add_done_callback(lambda _: live.messages.put_nowait(("", None)))
    try:
        while True:
            kind, data = await live.messages.get()
            if kind == "":
                break
            if kind == "preview":
                events = translation.preview(*data)
            elif kind == "certain":
                events = translation.feed(*data)
            elif data.get("prompt_id") == prompt_id and (trusted is None or kind in trusted):
                events = translation.feed(kind, data)
            else:
                continue
            for event in events:
                yield event
        await certain
        for event in translation.end():
            yield event
    finally:
        certain.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await certain


async def _log(server: Connection, prompt_id: str, live: MessageStream, events: list[Any], patience: float) -> None:
    """Hand on the numbered log, each event once, until the prompt is over."""
    since = 0
    while True:
        for event in events:
            since = event["number"]
            live.messages.put_nowait(("certain", (event["type"], event["data"])))
            if event["type"] in ENDS:
                return
        try:
            events = await patiently(lambda: server.log(prompt_id, since, LONG_POLL), patience)  # noqa: B023
        except NotOffered:
            raise lost(server.url, prompt_id) from None
        if not events:
            await asyncio.sleep(FIRST_PAUSE)


async def _history(server: Connection, prompt_id: str, live: MessageStream, patience: float) -> None:
    """Wait until the prompt is in the history, and hand on what the websocket has not sent of it."""
    misses = 0
    while True:
        entry = await patiently(lambda: server.history(prompt_id), patience)
        if entry is not None:
            break
        waiting = await patiently(lambda: server.waits_or_runs(prompt_id), patience)
        misses = 0 if waiting is not None else misses + 1
        if misses > MISSES:
            raise lost(server.url, prompt_id)
        with suppress(TimeoutError):
            await asyncio.wait_for(live.over.wait(), HISTORY_POLL)
        if live.over.is_set():
            live.over.clear()
            await asyncio.sleep(FIRST_PAUSE if misses else 0)
    status = entry.get("status") or {}
    messages = [(kind, data) for kind, data in status.get("messages") or () if kind != "execution_start"]
    outputs = [("executed", {"node": node, "output": ui}) for node, ui in (entry.get("outputs") or {}).items()]
    kinds = [kind for kind, _ in messages]
    if status.get("status_str") == "error" and not {"execution_error", "execution_interrupted"} & set(kinds):
        messages.append(
            ("execution_error", {"exception_type": "error", "exception_message": "the server gives no details"})
        )
    elif not set(ENDS) & set(kinds):
        messages.append(("execution_success", {}))
    order = [
        *[item for item in messages if item[0] not in ENDS],
        *outputs,
        *[item for item in messages if item[0] in ENDS],
    ]
    for item in order:
        live.messages.put_nowait(("certain", item))


async def patiently(ask: Callable[[], Awaitable[T]], patience: float) -> T:
    """The answer, asked for again while the connection is broken or the server is being restarted."""
    began, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return await ask()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            if time.monotonic() - began + pause > patience:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def reached(ask: Callable[[], Awaitable[T]], patience: float) -> T:
    """The answer of a server that may be starting. What could not connect was not sent, so it is sent once."""
    end, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return await ask()
        except aiohttp.ClientConnectorError:
            if time.monotonic() + pause > end:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def lost(url: str, prompt_id: str) -> GraphFlowError:
    return GraphFlowError([Problem("lost", f"{url} does not know the run {prompt_id}", hint="run it again")])
