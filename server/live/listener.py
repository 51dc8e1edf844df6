"""One open websocket as the hub sees it: what it gets at once, and what it gets later, from the log.

What is numbered is in the queue's log. So nothing of it has to wait in memory for a client that is slow, or has just
come: the listener is behind on that prompt, and catches up from the log as fast as the client reads. Nothing is sent
twice, left out, or sent in another order. Images that are results are in no log: they wait here for their turn.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import deque
from dataclasses import dataclass, field

from ..queue import PromptQueue, QueueEvent
from .outbox import Outbox, Rank

__all__ = ["Subscriber", "EndMessage"]

BATCH = 200
"""Events that are read from the log at a time."""
MOST_ASKED = 100
"""Ends that are waited for to be confirmed."""
MOST_IMAGES = 256 << 20
"""Bytes of result images that may wait for one client; who is further behind is cut off, as nothing of them is left
out."""
LAST = sys.maxsize
"""Stands for the newest event where its number is not known."""


class EndMessage(str):
    """The last message about a prompt; whether it has been read is asked for with a ping behind it."""

    prompt_id: str

    @classmethod
    def of(cls, prompt_id: str) -> EndMessage:
        over = cls(json.dumps({"type": "executing", "data": {"node": None, "prompt_id": prompt_id}}))
        over.prompt_id = prompt_id
        return over


@dataclass(slots=True)
class _Behind:
    """The place of a listener in the log of a prompt."""

    sent: int
    """It has got the events up to this one."""
    latest: int = 0
    """There is at least this one."""
    images: deque[tuple[int, bytes]] = field(default_factory=deque)
    """Results, each with the event that it comes behind."""


@dataclass(eq=False, slots=True)
class Subscriber:
    client_id: str
    outbox: Outbox
    previews: str | None = None
    """How it wants preview images: `metadata` (frame 4), `plain` (frame 1), or not at all."""
    logs: bool = False
    hears_all: bool = False
    """It wants the events of all prompts, as the status page does."""
    watched: frozenset[str] = frozenset()
    """Prompts of others whose events it wants as well."""
    is_new: bool = True
    """It has not got yet what happened before it came, so all that is numbered waits for its turn."""
    _behind: dict[str, _Behind] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)
    """The last event of a prompt that was sent from the log, where that was ahead of the notifications."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: deque[tuple[bytes, str]] = field(default_factory=lambda: deque(maxlen=MOST_ASKED))
    _questions: int = 0

    def notify(self, event: QueueEvent) -> None:
        """Called for each event, in order. Never waits."""
        prompt = event.prompt_id or ""
        behind = self._behind.get(prompt)
        if event.type == "image" and event.client_id in (None, self.client_id):
            self._give(event, behind)
            return
        if event.number is None:
            # Progress of a prompt that it knows nothing of yet would be out of order.
            if behind is None:
                self._pass_on(event, prompt)
            return
        if behind is None and event.number <= self._read.get(prompt, 0):
            if event.number == self._read[prompt]:
                del self._read[prompt]
            return
        if behind is None and (self.is_new or self.outbox.is_full):
            behind = self._behind[prompt] = _Behind(0 if self.is_new else event.number - 1)
        if behind is None:
            self._say(event)
        else:
            behind.latest = event.number
            self._news.set()

    def begin(self, prompts: dict[str, int]) -> None:
        """Send the events of these prompts after the number that is given for each, and from now on what happens."""
        for prompt_id, number in prompts.items():
            self._behind.setdefault(prompt_id, _Behind(0)).sent = number
        self.is_new = False
        self._news.set()

    def ask(self, prompt_id: str) -> bytes:
        """The end of this prompt has been written: what to send in a ping, whose pong shows that it has been read."""
        self._questions += 1
        question = str(self._questions).encode()
        self._asked.append((question, prompt_id))
        return question

    def answered(self, question: bytes | None = None) -> list[str]:
        """The prompts whose ends have been read with this pong (None: all that have been written), each once."""
        asked = list(self._asked)
        read = next((index + 1 for index, (sent, _) in enumerate(asked) if sent == question), 0)
        read = len(asked) if question is None else read
        for _ in range(read):
            self._asked.popleft()
        return [prompt_id for _, prompt_id in asked[:read]]

    async def catch_up(self, queue: PromptQueue) -> None:
        """Send from the log what it is behind on, whenever it is; runs as long as the listener."""
        while True:
            await self._news.wait()
            while self._behind and not self.is_new:
                prompt_id, behind = next(iter(self._behind.items()))
                events = await queue.events(prompt_id, behind.sent, limit=BATCH)
                for event in events:
                    await self.outbox.room()
                    self._say(event)
                    behind.sent = event.number or behind.sent
                    await self._give_images(behind, behind.sent)
                # What happened since the log was read is noted in `latest`; with nothing noted, it is up to date.
                if not events or (len(events) < BATCH and behind.sent >= behind.latest):
                    if behind.images:
                        await self._give_images(behind, LAST)
                        continue  # it may have gone on meanwhile
                    del self._behind[prompt_id]
                    if behind.sent > behind.latest:
                        self._read[prompt_id] = behind.sent
                    progress = queue.progress(prompt_id)
                    if progress is not None:
                        self.notify(progress)
            self._news.clear()

    def _say(self, event: QueueEvent) -> None:
        self.outbox.put(event.text, Rank.STATE)
        if event.is_terminal:
            self.outbox.put(EndMessage.of(event.prompt_id or ""), Rank.STATE)

    def _give(self, image: QueueEvent, behind: _Behind | None) -> None:
        """An image that is a result goes to every connection of its client, whether it wants previews or not."""
        frame = _frame(image, self.previews or "plain")
        waiting = sum(len(kept) for each in self._behind.values() for _, kept in each.images)
        if self.outbox.size + waiting + len(frame) > MOST_IMAGES:
            self.outbox.close(slow=True)
        elif behind is None:
            self.outbox.put(frame, Rank.STATE)
        else:
            behind.images.append((behind.latest or LAST, frame))
            self._news.set()

    async def _give_images(self, behind: _Behind, number: int) -> None:
        """Those that come behind this event."""
        while behind.images and behind.images[0][0] <= number:
            await self.outbox.room()
            self.outbox.put(behind.images.popleft()[1], Rank.STATE)

    def _pass_on(self, event: QueueEvent, prompt: str) -> None:
        """Events without a number: of these only the newest counts."""
        if event.type in ("preview", "image"):
            if self.previews is not None:
                node = str(event.data.get("node_id"))
                self.outbox.put(_frame(event, self.previews), Rank.PREVIEW, ("preview", prompt, node))
        elif event.type == "text":
            node = str(event.data["node"])
            self.outbox.put(_text_frame(node, event.data["text"]), Rank.PROGRESS, ("text", prompt, node))
        elif event.type == "status":
            self.outbox.put(event.text, Rank.STATE, ("status",))
        elif event.type == "progress_state":
            self.outbox.put(event.text, Rank.PROGRESS, ("progress_state", prompt))
        elif event.type == "progress":
            self.outbox.put(event.text, Rank.PROGRESS, ("progress", prompt, str(event.data.get("node"))))


def _frame(event: QueueEvent, how: str) -> bytes:
    """An image as one of ComfyUI's binary frames: 4 with metadata, 1 without."""
    if how == "metadata":
        metadata = json.dumps(event.data).encode()
        return struct.pack(">II", 4, len(metadata)) + metadata + event.blob
    kind = 2 if event.data.get("image_type") == "image/png" else 1
    return struct.pack(">II", 1, kind) + event.blob


def _text_frame(node: str, text: str) -> bytes:
    """ComfyUI's binary frame 3."""
    name = node.encode()
    return struct.pack(">II", 3, len(name)) + name + text.encode("utf-8", "replace")
