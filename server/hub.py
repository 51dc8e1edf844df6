"""Who listens, and who is told what: the events of the queue on their way to websockets.

Lives on the event loop. A websocket is one listener; several may have the same client id (a page that was reloaded, and
its old connection that nobody has closed yet), and each is told all.
"""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .metrics import Metrics
from .outbox import Outbox, Rank
from .queue import Event

__all__ = ["Hub", "Listener"]

MISSED_CLIENTS, MISSED_PROMPTS = 1000, 100
"""How much is remembered of clients that were away when their prompts ended."""


@dataclass(eq=False, slots=True)
class Listener:
    """One open websocket."""

    client_id: str
    outbox: Outbox
    previews: str | None = None
    """How it wants preview pictures: `metadata` (frame 4), `plain` (frame 1), or not at all."""
    logs: bool = False
    watched: set[str] = field(default_factory=set)
    """Prompts of others whose events it wants as well."""
    hears_all: bool = False
    """It wants the events of all prompts, as the status page does."""
    held: list[Event] | None = None
    """What happens while it is still being told what has happened before."""
    told: dict[str, int] = field(default_factory=dict)
    """Up to which event of a prompt it has been told by the replay."""

    def tell(self, event: Event) -> None:
        """Put the event, in the words of the protocol, into the outbox."""
        if self.held is not None:
            self.held.append(event)
            return
        prompt = event.prompt_id or ""
        if event.number is not None:
            if event.number <= self.told.get(prompt, 0):
                return
            self.outbox.put(event.text, Rank.STATE)
            if event.is_terminal:
                over = {"type": "executing", "data": {"node": None, "prompt_id": prompt}}
                self.outbox.put(json.dumps(over), Rank.STATE)
        elif event.type == "preview":
            if self.previews is not None:
                node = str(event.data.get("node_id"))
                self.outbox.put(_frame(event, self.previews), Rank.PREVIEW, ("preview", prompt, node))
        elif event.type == "status":
            self.outbox.put(event.text, Rank.STATE, ("status",))
        elif event.type == "progress_state":
            self.outbox.put(event.text, Rank.PROGRESS, ("progress_state", prompt))
        elif event.type == "progress":
            self.outbox.put(event.text, Rank.PROGRESS, ("progress", prompt, str(event.data.get("node"))))

    def replay(self, event: Event) -> None:
        """Tell something that has happened before, while what happens now is held."""
        held, self.held = self.held, None
        self.tell(event)
        self.held = held
        if event.number is not None:
            self.told[event.prompt_id or ""] = event.number

    def hold(self) -> None:
        self.held = []

    def release(self) -> None:
        """Tell what was held; what the replay has told already is left out."""
        waiting, self.held = self.held or [], None
        for event in waiting:
            self.tell(event)
        self.told.clear()


class Hub:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._listeners: dict[str, set[Listener]] = {}
        self._watchers: dict[str, set[Listener]] = {}
        self._curious: set[Listener] = set()
        self._missed: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    # -- listeners --------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(len(group) for group in self._listeners.values())

    def everyone(self) -> Iterable[Listener]:
        return [listener for group in self._listeners.values() for listener in group]

    def of_client(self, client_id: str) -> Iterable[Listener]:
        return list(self._listeners.get(client_id, ()))

    def add(self, listener: Listener) -> None:
        self._listeners.setdefault(listener.client_id, set()).add(listener)
        for prompt_id in listener.watched:
            self._watchers.setdefault(prompt_id, set()).add(listener)
        if listener.hears_all:
            self._curious.add(listener)
        self._metrics.sockets.set(len(self))

    def remove(self, listener: Listener) -> None:
        """This listener alone: another one with the same client id hears on."""
        _discard(self._listeners, listener.client_id, listener)
        for prompt_id in listener.watched:
            _discard(self._watchers, prompt_id, listener)
        self._curious.discard(listener)
        self._metrics.dropped.inc(listener.outbox.dropped)
        self._metrics.sockets.set(len(self))

    def missed(self, client_id: str) -> list[str]:
        """Prompts that have ended while nobody listened under this id; told once."""
        return list(self._missed.pop(client_id, ()))

    @property
    def wants_previews(self) -> bool:
        return any(listener.previews is not None for listener in self.everyone())

    # -- events -----------------------------------------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Called for each event of the queue, on the event loop, in the order in which they happened."""
        if event.client_id is None:
            told: Iterable[Listener] = self.everyone()
        else:
            told = self._listeners.get(event.client_id, ())
            if event.is_terminal and not told and event.prompt_id is not None:
                self._remember_missed(event.client_id, event.prompt_id)
            others = {*self._curious, *self._watchers.get(event.prompt_id or "", ())}
            if others:
                told = {*told, *others}
        for listener in told:
            listener.tell(event)

    def tell_log(self, line: dict[str, str]) -> None:
        text = json.dumps({"type": "logs", "data": {"entries": [line], "size": None}})
        for listener in self.everyone():
            if listener.logs:
                listener.outbox.put(text, Rank.PREVIEW)

    def _remember_missed(self, client_id: str, prompt_id: str) -> None:
        prompts = self._missed.setdefault(client_id, OrderedDict())
        prompts[prompt_id] = None
        self._missed.move_to_end(client_id)
        if len(prompts) > MISSED_PROMPTS:
            prompts.popitem(last=False)
        if len(self._missed) > MISSED_CLIENTS:
            self._missed.popitem(last=False)


def _discard(groups: dict[str, Any], key: str, item: Any) -> None:
    group = groups.get(key)
    if group is not None:
        group.discard(item)
        if not group:
            del groups[key]


def _frame(event: Event, how: str) -> bytes:
    """A preview as one of the field's binary frames: 4 with metadata, 1 without."""
    if how == "metadata":
        metadata = json.dumps(event.data).encode()
        return struct.pack(">II", 4, len(metadata)) + metadata + event.blob
    kind = 2 if event.data.get("image_type") == "image/png" else 1
    return struct.pack(">II", 1, kind) + event.blob
