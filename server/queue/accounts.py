"""How much of the machine's time each client has had, over all workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ["AtWork", "ClientAccounts"]

MOST_ACCOUNTS = 1000


@dataclass(slots=True)
class AtWork:
    """A prompt that a worker has."""

    client: str
    alone: int
    likeness: str | None
    model: str | None
    length: float | None
    """As in `Candidate`."""
    since: float = 0.0
    """The account of its client when it began."""


class ClientAccounts:
    """Seconds by client. Belongs to one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._workers: dict[Hashable, dict[str, AtWork]] = {}
        self.seconds: dict[str, float] = {}
        self._least = 0.0
        """The least that the account of a client holds: who comes back after a pause has saved no turns up."""
        self._looked = clock()

    @property
    def has_work(self) -> bool:
        """Whether any worker has a prompt."""
        return any(self._workers.values())

    @property
    def is_closed(self) -> bool:
        """A prompt is at work beside which nothing may run, on no worker."""
        return any(each.alone > 1 for found in self._workers.values() for each in found.values())

    def began(self, worker: Hashable, prompt_id: str, begun: AtWork) -> None:
        self.charge()
        begun.since = self.seconds[begun.client] = self.of(begun.client)
        self._workers.setdefault(worker, {})[prompt_id] = begun

    def ended(self, worker: Hashable, prompt_id: str) -> None:
        self.charge()
        self._workers.get(worker, {}).pop(prompt_id, None)
        if not self._workers.get(worker):
            self._workers.pop(worker, None)
        at_work = [each for found in self._workers.values() for each in found.values()]
        began = [each.since for each in at_work]
        self._least = max(self._least, min(began) if began else max(self.seconds.values(), default=0.0))
        if len(self.seconds) > MOST_ACCOUNTS:
            working = {each.client for each in at_work}
            self.seconds = {key: used for key, used in self.seconds.items() if key in working or used > self._least}

    def charge(self) -> None:
        """Share the time since the last look: that of each worker among those that it has."""
        now = self._clock()
        for found in self._workers.values():
            for each in found.values():
                self.seconds[each.client] = self.seconds.get(each.client, 0.0) + (now - self._looked) / len(found)
        self._looked = now

    def of(self, client: str) -> float:
        return max(self.seconds.get(client, 0.0), self._least)
