"""Notifies subscribers of all events, and those who wait for the next event of one prompt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

from .records import Counts, QueueEvent
from .texts import dump

__all__ = ["Notifier", "status_event"]

log = logging.getLogger("graphflow.queue")


class Notifier:
    """Belongs to one event loop; only `committed` may be called from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subscribers: list[Callable[[QueueEvent], None]] = []
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._published = Counts(-1)

    def subscribe(self, callback: Callable[[QueueEvent], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def committed(self, events: list[QueueEvent], counts: Counts) -> None:
        """Called in the store's thread after each commit."""
        if counts != self._published:
            self._published = counts
            events = [*events, status_event(counts)]
        if events:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to notify
                self._loop.call_soon_threadsafe(self.publish, events)

    def publish(self, events: list[QueueEvent]) -> None:
        for event in events:
            for callback in tuple(self._subscribers):
                try:
                    callback(event)
                except Exception:  # one that cannot listen keeps the others from nothing
                    log.exception("a subscriber failed at %s", event.type)
        for prompt_id in {event.prompt_id for event in events if event.number is not None}:
            self._wake(prompt_id)

    @contextlib.contextmanager
    def of(self, prompt_id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done at the next news of this prompt: take it, then look, then wait, and nothing is
        missed."""
        news: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(prompt_id, set()).add(news)
        try:
            yield news
        finally:
            waiters = self._waiting[prompt_id]
            waiters.discard(news)
            if not waiters:
                del self._waiting[prompt_id]

    def wake_all(self) -> None:
        for prompt_id in list(self._waiting):
            self._wake(prompt_id)

    def _wake(self, prompt_id: str | None) -> None:
        for news in self._waiting.get(prompt_id or "", ()):
            if not news.done():
                news.set_result(None)


def status_event(counts: Counts) -> QueueEvent:
    """ComfyUI's `status` message, for everybody."""
    return QueueEvent(None, None, "status", dump({"status": {"exec_info": {"queue_remaining": counts.remaining}}}))
