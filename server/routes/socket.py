"""GET /ws: one websocket from its opening to its end. Who hears what is decided in hub.py."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from graphflow import Problem

from ..http import strict_json
from ..http.bodies import read_query
from ..http.policies import READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..live.listener import EndMessage, Subscriber
from ..live.outbox import Outbox, OutboxClosed, Rank
from ..protocol.messages import SocketMessage
from ..protocol.requests import SocketQuery
from ..state import STATE, ServerState
from .describe import features

__all__ = ["ROUTES"]

log = logging.getLogger("graphflow.server")
LARGEST_MESSAGE = 64 << 10
HEARTBEAT = 20.0
MESSAGES, PER_SECONDS = 100, 5.0
"""The most messages that a client may send, in so many seconds."""


async def websocket(request: web.Request) -> web.StreamResponse:
    """The events of the client's prompts as they happen; first what it may have missed."""
    state, query = request.app[STATE], read_query(request, SocketQuery)
    with state.socket_places.taken(request.remote or "") as has_place:
        if not has_place:
            most = len(state.socket_places)
            raise RequestRefused(503, Problem("too_many_sockets", f"{most} websockets are open already"))
        return await _served(request, state, query)


async def _served(request: web.Request, state: ServerState, query: SocketQuery) -> web.StreamResponse:
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT, autoping=False, compress=False, max_msg_size=LARGEST_MESSAGE, timeout=5.0, protocols=()
    )
    await ws.prepare(request)
    listener = Subscriber(
        query.clientId or uuid.uuid4().hex,
        Outbox(state.options.limits.outbox),
        hears_all=query.all,
        watched=frozenset({query.prompt_id} if query.prompt_id is not None else ()),
    )
    state.hub.add(listener)
    state.queue.want_previews(state.hub.wants_previews)
    state.sockets.add(ws)
    work = (_write(ws, listener, state), _guard(request, listener, state), _catch_up(listener, state))
    tasks = [asyncio.create_task(part) for part in work]
    try:
        await _greet(state, listener, query.since)
        await _read(ws, listener, state)
    finally:
        state.sockets.discard(ws)
        state.hub.remove(listener)
        state.queue.want_previews(state.hub.wants_previews)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return ws


async def _greet(state: ServerState, listener: Subscriber, since: int) -> None:
    """Send the number of prompts, and decide from where on the listener gets events."""
    queue = state.queue
    status = {"status": {"exec_info": {"queue_remaining": queue.counts.remaining}}, "sid": listener.client_id}
    listener.outbox.put(json.dumps({"type": "status", "data": status}), Rank.STATE)
    mine = (listener.client_id, None)
    running = [prompt.id for prompt in await queue.running() if listener.hears_all or prompt.client_id in mine]
    unheard = state.hub.unheard(listener.client_id)
    listener.begin({**dict.fromkeys([*unheard, *running], 0), **dict.fromkeys(listener.watched, since)})


async def _read(ws: web.WebSocketResponse, listener: Subscriber, state: ServerState) -> None:
    """Read the features of the client, and how far it has read. Ends when the connection does."""
    moments: list[float] = []
    while not ws.closed:
        message = await ws.receive()
        if message.type is WSMsgType.PONG:
            state.hub.heard(listener.client_id, listener.answered(bytes(message.data)))
            continue
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            # A client that closes has what it wanted; a page that is left or reloaded may not have read to the end.
            if message.type is WSMsgType.CLOSE and message.data != WSCloseCode.GOING_AWAY:
                state.hub.heard(listener.client_id, listener.answered())
            return
        now = time.monotonic()
        moments = [moment for moment in moments if now - moment < PER_SECONDS] + [now]
        if len(moments) > MESSAGES:
            await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many messages")
            return
        if message.type is WSMsgType.PING:
            await ws.pong(message.data)
        if message.type is WSMsgType.TEXT:
            _hear(message.data, listener, state)


def _hear(text: str, listener: Subscriber, state: ServerState) -> None:
    try:
        message = strict_json.loads(text.encode("utf-8"))
    except (strict_json.BadJSON, UnicodeEncodeError):
        return
    if not isinstance(message, dict) or message.get("type") != "feature_flags":
        return
    data = message.get("data")
    flags: dict[str, Any] = data if isinstance(data, dict) else {}
    listener.previews = "metadata" if flags.get("supports_preview_metadata") is True else "plain"
    state.queue.want_previews(True)
    listener.outbox.put(json.dumps({"type": "feature_flags", "data": features(state)}), Rank.STATE)


async def _write(ws: web.WebSocketResponse, listener: Subscriber, state: ServerState) -> None:
    """Send what is in the outbox, one message after the other, as fast as the client takes it."""
    try:
        while True:
            content = await listener.outbox.get()
            async with asyncio.timeout(state.options.limits.stalled_seconds):
                if isinstance(content, bytes):
                    await ws.send_bytes(content)
                else:
                    await ws.send_str(content)
                    if isinstance(content, EndMessage):
                        await ws.ping(listener.ask(content.prompt_id))
    except TimeoutError:
        listener.outbox.close(slow=True)
    except (OutboxClosed, ConnectionError):
        return


async def _catch_up(listener: Subscriber, state: ServerState) -> None:
    try:
        await listener.catch_up(state.queue)
    except Exception as error:
        # It must not go on with a gap; when it comes back it gets everything.
        log.error("a websocket cannot catch up with the log", exc_info=error)
        listener.outbox.close(slow=True)


async def _guard(request: web.Request, listener: Subscriber, state: ServerState) -> None:
    """Cut off a client that does not keep up: at once, since a closing handshake would wait for it, too."""
    await listener.outbox.was_slow.wait()
    state.metrics.cut.inc()
    if request.transport is not None:
        request.transport.abort()


ROUTES = (
    Route(
        "GET",
        "/ws",
        websocket,
        READ,
        "Websocket: events as they happen",
        query=SocketQuery,
        statuses=(101,),
        messages=SocketMessage,
    ),
)
