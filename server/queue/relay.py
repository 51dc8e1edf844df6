"""Passes on the reports of the worker about one run, in their order: states into the file, progress and previews to
listeners, behind the states before them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .notifier import Notifier
from .progress import RunProgress
from .records import QueueEvent

__all__ = ["Append", "Relay"]

EventTexts = list[tuple[str, str]]
"""Types of events, and their data in JSON."""
Append = Callable[[EventTexts, int], Awaitable[int]]
"""Writes events down behind the one with this number, however long that takes; the number of the last one then."""

MOST_WAITING = 1000
"""Parts that wait while the disk does not take a state; of what passes, the rest is dropped but for images that are
results."""


@dataclass(frozen=True, slots=True)
class _States:
    events: EventTexts


@dataclass(frozen=True, slots=True)
class _Passing:
    events: list[QueueEvent]
    is_result: bool = False


class Relay:
    """Belongs to the event loop. `last` is the number of the last event that is in the file when the run begins."""

    def __init__(self, live: RunProgress, news: Notifier, append: Append, last: int) -> None:
        self.live = live
        self._news, self._append, self._last = news, append, last
        self._waiting: deque[_States | _Passing] = deque()
        self._work: asyncio.Task[None] | None = None

    def take(self, head: dict[str, Any], blob: bytes) -> None:
        """A frame of the run. Never waits."""
        match head["kind"]:
            case "events":
                self._put(_States(list(_events(head["events"], blob.decode()))))
            case "progress":
                self._put(_Passing(list(self.live.progress(head["nodes"]))))
            case "preview":
                self._put(_Passing([self.live.preview(_metadata(head), blob)]))
            case "image":
                self._put(_Passing([self.live.image(_metadata(head), blob)], is_result=True))
            case "texts":
                self._put(_Passing([self.live.text(node, text) for node, text in head["texts"].items()]))

    async def settled(self) -> None:
        """Wait until all that was taken is written down and published, so that nothing comes after the end of the
        prompt.

        Raises what has kept a state from being written: then nothing behind it is written either.
        """
        if self._work is not None:
            await self._work

    def _put(self, part: _States | _Passing) -> None:
        if self._has_failed():
            return
        last = self._waiting[-1] if self._waiting else None
        if isinstance(part, _States) and isinstance(last, _States):
            last.events.extend(part.events)  # what comes while one commit is made is the next one
        elif isinstance(part, _States) or part.is_result or len(self._waiting) < MOST_WAITING:
            self._waiting.append(part)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain(), name="graphflow relay")

    def _has_failed(self) -> bool:
        return self._work is not None and self._work.done() and self._work.exception() is not None

    async def _drain(self) -> None:
        while self._waiting:
            match self._waiting.popleft():
                case _States(events):
                    self._last = await self._append(events, self._last)
                case _Passing(events):
                    self._news.publish(events)


def _metadata(head: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in head.items() if key != "kind"}


def _events(heads: list[tuple[str, int]], texts: str) -> Iterator[tuple[str, str]]:
    """The texts stand behind each other, each of the length in its head; none is read here, as it may be large."""
    at = 0
    for kind, length in heads:
        yield kind, texts[at : at + length]
        at += length
