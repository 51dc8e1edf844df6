"""A run for programs that await: its events one by one, or its result, beside whatever else the event loop does.

The run itself is the engine's ordinary one, in a thread. Who stops listening, or is cancelled, cancels it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import suppress
from threading import Event as Flag
from typing import Any, Generic, TypeVar

from ..document.workflow import Source
from ..events import Event

__all__ = ["Stream", "awaited"]

R = TypeVar("R")


class Stream(AsyncIterator[Event], Generic[R]):
    """The events of a run as they happen; `result` is there when the loop over them has ended."""

    def __init__(self, run: Callable[..., R], workflow: Source, options: Mapping[str, Any]) -> None:
        self.result: R | None = None
        self._events = self._run(run, workflow, options)

    def __aiter__(self) -> Stream[R]:
        return self

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def aclose(self) -> None:
        """Cancel the run, and wait until it has ended."""
        await self._events.aclose()

    async def _run(
        self, run: Callable[..., R], workflow: Source, options: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        """Raises at the end what the run raises."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        cancel = options.get("cancel") or Flag()
        also = options.get("on_event")

        def forward(event: Event) -> None:
            if also is not None:
                also(event)
            loop.call_soon_threadsafe(events.put_nowait, event)

        options = {**options, "on_event": forward, "cancel": cancel}
        task = asyncio.create_task(asyncio.to_thread(run, workflow, **options))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            self.result = await task
        finally:
            cancel.set()
            with suppress(Exception):
                await asyncio.shield(task)


async def awaited(run: Callable[..., R], workflow: Any, options: Mapping[str, Any]) -> R:
    """The result of `run(workflow, **options)`."""
    cancel = options.get("cancel") or Flag()
    task = asyncio.create_task(asyncio.to_thread(run, workflow, **{**options, "cancel": cancel}))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cancel.set()
        with suppress(Exception):
            await task
        raise
