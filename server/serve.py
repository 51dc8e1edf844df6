"""The life of a server: from its settings to an open port, and from a signal to exit code 0."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from graphflow import Cache, Engine, GraphFlowError, Problem, Registry

from .app import create_app
from .http.connections import Door
from .monitoring.logs import RecentLines, set_up
from .options import Options
from .queue import PromptQueue, QueueSettings
from .routes.pages import editor_folder

__all__ = ["listening", "serve"]

COLLECT_EVERY = 60.0
"""Seconds between two looks of the collector at all objects."""
SELDOM = 1000
"""Collections of younger objects after which it looks at all of them none the less."""
SHUTDOWN = 1.0
"""Seconds that open requests get to end, while the step at hand ends."""


async def serve(options: Options, settings: QueueSettings, log_level: str = "INFO", log_format: str = "auto") -> int:
    """Serve until SIGTERM or SIGINT, then 0; or until another server has taken over the state folder, then 1."""
    recent = RecentLines()
    set_up(recent, log_level, log_format)
    loop = asyncio.get_running_loop()
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    queue = PromptQueue(settings)
    async with listening(options, settings, recent, queue) as port:
        tidying = asyncio.create_task(_tidy())
        # Threads that compute give way to the event loop after this long.
        sys.setswitchinterval(0.001)
        print(address(options, port), flush=True)
        ends = [asyncio.create_task(event.wait()) for event in (asked_to_end, queue.lost)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (tidying, *ends):
            task.cancel()
    return 1 if queue.lost.is_set() else 0


async def _tidy() -> None:
    """The collector looks at everything once in a while, instead of in the middle of each large request: all threads
    wait for it, for a tenth of a second where there are some hundred thousand objects."""
    # What is loaded by now stays: it need not be looked at again.
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, SELDOM)
    while True:
        await asyncio.sleep(COLLECT_EVERY)
        gc.collect()


@asynccontextmanager
async def listening(
    options: Options, settings: QueueSettings, recent: RecentLines | None = None, queue: PromptQueue | None = None
) -> AsyncIterator[int]:
    """A server that answers, in this event loop; the port it has. Raises GraphFlowError where it cannot listen."""
    worker = settings.worker
    engine = Engine(await asyncio.to_thread(Registry.installed, worker.nodes), worker.settings(), Cache(memory=0))
    app = create_app(options, engine, queue or PromptQueue(settings), recent)
    limits = options.limits
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        assert runner.server is not None
        door = Door(runner.server, limits, options.proxies)
        try:
            server = await asyncio.get_running_loop().create_server(door, options.host, options.port, backlog=512)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "that is not a name of a host"
            raise GraphFlowError(
                [
                    Problem(
                        "cannot_listen",
                        f"cannot listen on {options.host} port {options.port}: {reason}",
                        hint="choose another with --port or --host",
                    )
                ]
            ) from error
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


def address(options: Options, port: int) -> str:
    """The line with the address to open; the token is behind a `#`, so that no server and no log sees it in a link."""
    name = options.public_name
    host = f"[{name}]" if ":" in name else name
    what = "the editor" if editor_folder() is not None else "the status page"
    login = f"login#{options.token}" if options.token is not None else ""
    return f"Open http://{host}:{port}/{login} for {what}; clients of the API use http://{host}:{port}"
