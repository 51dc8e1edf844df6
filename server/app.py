"""The application: all routes, each twice, each with its policy; what is around them; what begins and ends with it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable

from aiohttp import WSCloseCode, web

from graphflow import Engine

from .http.budget import BUDGET, Budget
from .http.gate import POLICIES, gate
from .http.headers import add_headers
from .http.middleware import around
from .http.policies import Policy
from .http.proxies import behind
from .http.route import TABLE, Route
from .live.hub import Hub
from .monitoring.logs import RecentLines
from .monitoring.metrics import Metrics
from .options import Options
from .queue import PromptQueue, QueueEvent
from .routes import pages
from .routes.table import ROUTES
from .state import STATE, ServerState
from .tracing.spans import Spans

__all__ = ["create_app"]

TICK = 0.02
"""Seconds between two looks at whether the event loop runs."""


def create_app(
    options: Options, engine: Engine, queue: PromptQueue, recent: RecentLines | None = None
) -> web.Application:
    """The server as an aiohttp application; the queue begins and ends with it."""
    metrics = Metrics()
    app = web.Application(
        middlewares=[behind(options.proxies), around(metrics), gate(options)],
        client_max_size=options.limits.upload + (1 << 20),
    )
    app[STATE] = ServerState(options, engine, queue, metrics, Hub(metrics), recent or RecentLines())
    app[BUDGET] = Budget(options.limits.bodies)
    app[TABLE] = ROUTES
    app[POLICIES] = add_routes(app, [*ROUTES, pages.STATIC])
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(_life)
    app.on_shutdown.append(_say_goodbye)
    return app


def add_routes(app: web.Application, routes: Iterable[Route]) -> dict[web.AbstractRoute, Policy]:
    """Each as it is written and under `/api`; what policy the added ones have."""
    policies: dict[web.AbstractRoute, Policy] = {}
    for route in routes:
        for path in (route.path, f"/api{route.path}") if route.twin else (route.path,):
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                added = app.router.add_route(method, path, route.handler)
                policies[added] = route.policy
    return policies


async def _life(app: web.Application) -> AsyncIterator[None]:
    state = app[STATE]
    loop = asyncio.get_running_loop()
    await state.queue.start()
    unsubscribe = state.queue.subscribe(lambda event: _on_event(state, event))
    spans = Spans()
    state.queue.on_times(lambda prompt, times: spans.note(prompt, json.loads(times)))
    own_thread = threading.get_ident()

    def on_line(line: dict[str, str]) -> None:
        # Most lines are of the loop itself, which need not be woken for them.
        if threading.get_ident() == own_thread:
            loop.call_soon(state.hub.publish_log, line)
        else:
            loop.call_soon_threadsafe(state.hub.publish_log, line)

    state.recent.on_line = on_line
    _count(state)
    watcher = asyncio.create_task(_watch_loop(state.metrics))
    yield
    watcher.cancel()
    state.recent.on_line = None
    unsubscribe()
    await (state.ending or state.queue.close())
    state.checks.shutdown(wait=False, cancel_futures=True)


async def _watch_loop(metrics: Metrics) -> None:
    """Sleep a little, again and again: how much longer it took is how long the event loop was held."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await asyncio.sleep(TICK)
        metrics.note_gap(loop.time() - began - TICK)


def _on_event(state: ServerState, event: QueueEvent) -> None:
    """One event of the queue: into the numbers, and on to who listens."""
    metrics = state.metrics
    if event.type == "status":
        _count(state)
    elif event.type == "run_stats":
        metrics.take_run(event.data)
    elif event.is_terminal:
        metrics.ended.labels(event.type.removeprefix("execution_")).inc()
    state.hub.publish(event)


def _count(state: ServerState) -> None:
    counts = state.queue.counts
    state.metrics.waiting.set(counts.pending)
    state.metrics.running.set(counts.running)


async def _say_goodbye(app: web.Application) -> None:
    state = app[STATE]
    state.closing.set()
    # The step at hand may take a while to end; connections are closed meanwhile.
    state.ending = asyncio.ensure_future(state.queue.close())
    for ws in list(state.sockets):
        await ws.close(code=WSCloseCode.GOING_AWAY, message=b"the server is shutting down")
