"""The messages that wait for one websocket client: bounded, whatever the client does.

Of progress and status only the latest counts, so a newer message takes the place of one that still waits. When there is
no room, previews go first, then progress; state messages never: whoever puts them looks at `is_full` first, or waits
for `room`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["OutboxClosed", "Outbox", "Rank"]


class Rank(IntEnum):
    """The lower rank is dropped first."""

    PREVIEW = 0
    PROGRESS = 1
    STATE = 2


class OutboxClosed(Exception):
    """There will be no more messages; `slow` if the client did not keep up."""

    def __init__(self, slow: bool) -> None:
        super().__init__()
        self.slow = slow


@dataclass(slots=True)
class _Message:
    content: str | bytes | None
    """None: dropped while it waited."""
    rank: Rank
    key: tuple[str, ...] | None


class Outbox:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[_Message] = deque()
        self._latest: dict[tuple[str, ...], _Message] = {}
        self._size = 0
        self._closed: OutboxClosed | None = None
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self.was_slow = asyncio.Event()
        self.dropped = 0

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    @property
    def is_full(self) -> bool:
        """State messages had better wait in the log than here."""
        return not self._roomy.is_set()

    async def room(self) -> None:
        """Wait until there is room for a state message."""
        await self._roomy.wait()

    def put(self, content: str | bytes, rank: Rank, key: tuple[str, ...] | None = None) -> None:
        """Never waits. A message with the `key` of one that still waits replaces it, in its place."""
        if self._closed is not None:
            return
        waiting = self._latest.get(key) if key is not None else None
        if waiting is not None and waiting.content is not None:
            self._size += len(content) - len(waiting.content)
            waiting.content = content
            self.dropped += 1
        else:
            item = _Message(content, rank, key)
            self._items.append(item)
            if key is not None:
                self._latest[key] = item
            self._size += len(content)
        if self._size > self._limit:
            self._make_room()
        self._look_at_size()
        self._filled.set()

    def close(self, slow: bool = False) -> None:
        if self._closed is None:
            self._closed = OutboxClosed(slow)
            self._filled.set()
            if slow:
                self.was_slow.set()

    async def get(self) -> str | bytes:
        """The next message; waits for one. Raises OutboxClosed: at once where the client was too slow, else at the
        end."""
        while True:
            if self._closed is not None and (self._closed.slow or not self._items):
                raise self._closed
            while self._items:
                item = self._items.popleft()
                if item.content is not None:
                    if item.key is not None and self._latest.get(item.key) is item:
                        del self._latest[item.key]
                    self._size -= len(item.content)
                    self._look_at_size()
                    return item.content
            if self._closed is not None:
                continue
            self._filled.clear()
            await self._filled.wait()

    def _make_room(self) -> None:
        for rank in (Rank.PREVIEW, Rank.PROGRESS):
            for item in self._items:
                if item.rank is rank and item.content is not None:
                    self._size -= len(item.content)
                    item.content = None
                    self.dropped += 1
                    if self._size <= self._limit:
                        return

    def _look_at_size(self) -> None:
        """Full above half of the limit, roomy again below a quarter, so that it does not change with every message."""
        if self._size > self._limit // 2:
            self._roomy.clear()
        elif self._size <= self._limit // 4:
            self._roomy.set()
