"""Open websockets, and which events each of them gets.

Lives on the event loop. A websocket is one listener; several may have the same client id (a page that was reloaded, and
its old connection that nobody has closed yet), and each gets everything.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from ..monitoring.metrics import Metrics
from ..queue import QueueEvent
from .listener import Subscriber
from .outbox import Rank

__all__ = ["Hub"]

UNHEARD_CLIENTS, UNHEARD_PROMPTS = 1000, 100
"""Of so many clients, so many ended prompts each are remembered until the client has heard of their end."""


class Hub:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._listeners: dict[str, set[Subscriber]] = {}
        self._watchers: dict[str, set[Subscriber]] = {}
        self._curious: set[Subscriber] = set()
        self._unheard: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    # -- listeners ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(len(group) for group in self._listeners.values())

    def everyone(self) -> Iterable[Subscriber]:
        return [listener for group in self._listeners.values() for listener in group]

    def of_client(self, client_id: str) -> Iterable[Subscriber]:
        return list(self._listeners.get(client_id, ()))

    def add(self, listener: Subscriber) -> None:
        self._listeners.setdefault(listener.client_id, set()).add(listener)
        for prompt_id in listener.watched:
            self._watchers.setdefault(prompt_id, set()).add(listener)
        if listener.hears_all:
            self._curious.add(listener)
        self._metrics.sockets.set(len(self))

    def remove(self, listener: Subscriber) -> None:
        """This listener alone: another one with the same client id hears on."""
        _discard(self._listeners, listener.client_id, listener)
        for prompt_id in listener.watched:
            _discard(self._watchers, prompt_id, listener)
        self._curious.discard(listener)
        self._metrics.dropped.inc(listener.outbox.dropped)
        self._metrics.sockets.set(len(self))

    def unheard(self, client_id: str) -> list[str]:
        """Prompts of a client that have ended, and no connection of it has shown yet that it knows: there may have been
        none, or one that was dead already."""
        return list(self._unheard.get(client_id, ()))

    def heard(self, client_id: str, prompt_ids: Iterable[str]) -> None:
        """A connection of the client has read up to the end of these prompts: its next one does not get them again."""
        prompts = self._unheard.get(client_id)
        if prompts is not None:
            for prompt_id in prompt_ids:
                prompts.pop(prompt_id, None)
            if not prompts:
                del self._unheard[client_id]

    @property
    def wants_previews(self) -> bool:
        return any(listener.previews is not None for listener in self.everyone())

    # -- events ------------------------------------------------------------------------------------------------------

    def publish(self, event: QueueEvent) -> None:
        """Called for each event of the queue, on the event loop, in the order in which they happened."""
        listeners: Iterable[Subscriber]
        if event.never_began:
            # A client takes this message for the end of what runs; a `status` shows it that less is waiting.
            listeners = {*self._curious, *self._watchers.get(event.prompt_id or "", ())}
        elif event.client_id is None:
            listeners = self.everyone()
        else:
            listeners = self._listeners.get(event.client_id, ())
            if event.is_terminal and event.prompt_id is not None:
                self._remember(event.client_id, event.prompt_id)
            others = {*self._curious, *self._watchers.get(event.prompt_id or "", ())}
            if others:
                listeners = {*listeners, *others}
        for listener in listeners:
            listener.notify(event)

    def publish_log(self, line: dict[str, str]) -> None:
        text = json.dumps({"type": "logs", "data": {"entries": [line], "size": None}})
        for listener in self.everyone():
            if listener.logs:
                listener.outbox.put(text, Rank.PREVIEW)

    def _remember(self, client_id: str, prompt_id: str) -> None:
        prompts = self._unheard.setdefault(client_id, OrderedDict())
        prompts[prompt_id] = None
        self._unheard.move_to_end(client_id)
        if len(prompts) > UNHEARD_PROMPTS:
            prompts.popitem(last=False)
        if len(self._unheard) > UNHEARD_CLIENTS:
            self._unheard.popitem(last=False)


def _discard(groups: dict[str, Any], key: str, item: Any) -> None:
    group = groups.get(key)
    if group is not None:
        group.discard(item)
        if not group:
            del groups[key]
