"""Which prompt is claimed next, where a worker holds several: the first in line, but fair between clients.

Each client has an account of seconds. The time in which n prompts are at work is charged to their clients, an n-th to
each prompt. Of the clients that wait, the one with the smallest account is next (start-time fair queuing, Goyal et al.
1996): who sends a hundred prompts keeps nobody else waiting for more than the prompts at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

__all__ = ["AHEAD", "Candidate", "Turns"]

AHEAD = 500
"""Places in the queue that are looked at for another client's prompt."""
PLACES_AHEAD = 32
"""A prompt overtakes others of its client over so many places at most, and is overtaken so often at most."""
MOST_ACCOUNTS = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt that waits."""

    seq: int
    id: str
    client: str
    """The client id, or the sender of a prompt without one."""
    is_placed: bool = False
    """Somebody gave it its place (`front`, `number`, a move), so it keeps it."""
    runs_alone: bool = False
    """A worker has died while it ran beside others."""
    likeness: str | None = None
    """Equal for prompts that may share passes."""


@dataclass(slots=True)
class _AtWork:
    client: str
    alone: bool
    likeness: str | None
    since: float
    """The account of the client when it began."""


class Turns:
    """The prompts at work, and those that may be next. With `concurrency` 1 the prompts run in their order, one at a
    time."""

    def __init__(
        self,
        concurrency: int = 1,
        one_a_client: bool = False,
        clock: Callable[[], float] = time.monotonic,
        *,
        prefers_alike: bool = False,
    ) -> None:
        """`one_a_client`: at most one prompt of each client is at work, as ComfyUI's clients expect of a server.
        `prefers_alike`: of one client's prompts, those that share passes with what is at work may overtake others."""
        self.concurrency, self._one_a_client, self._clock = concurrency, one_a_client, clock
        self._at_work: dict[str, _AtWork] = {}
        self._prefers_alike = prefers_alike
        self._overtaken: tuple[str, int] = ("", 0)
        """The prompt that was overtaken last, and how often."""
        self._seconds: dict[str, float] = {}
        self._least = 0.0
        """The least that the account of a client holds: who comes back after a pause has saved no turns up."""
        self._looked = clock()

    @property
    def has_room(self) -> bool:
        return len(self._at_work) < self.concurrency and not any(each.alone for each in self._at_work.values())

    @property
    def look_ahead(self) -> int:
        """How many of those that wait `choose` needs to see."""
        return 1 if self.concurrency == 1 else AHEAD

    def began(self, prompt_id: str, client: str, alone: bool = False, likeness: str | None = None) -> None:
        self._charge()
        self._seconds[client] = self._account(client)
        self._at_work[prompt_id] = _AtWork(client, alone, likeness, self._seconds[client])

    def ended(self, prompt_id: str) -> None:
        self._charge()
        self._at_work.pop(prompt_id, None)
        began = [each.since for each in self._at_work.values()]
        self._least = max(self._least, min(began) if began else max(self._seconds.values(), default=0.0))
        if len(self._seconds) > MOST_ACCOUNTS:
            working = {each.client for each in self._at_work.values()}
            self._seconds = {key: used for key, used in self._seconds.items() if key in working or used > self._least}

    def choose(self, waiting: Sequence[Candidate]) -> Candidate | None:
        """Of prompts in their order, the one to claim now; None where it is better to wait."""
        if not waiting or not self.has_room:
            return None
        if waiting[0].runs_alone:
            return waiting[0] if not self._at_work else None
        if self.concurrency == 1:
            return waiting[0]
        working = {each.client for each in self._at_work.values()} if self._one_a_client else set()
        free = [each for each in waiting if not each.runs_alone and each.client not in working]
        if not free or free[0].is_placed:
            return free[0] if free else None
        self._charge()
        firsts: dict[str, Candidate] = {}
        for each in takewhile(lambda each: not each.is_placed, free):
            firsts.setdefault(each.client, each)
        first = min(firsts.values(), key=lambda each: self._account(each.client))  # of equals, the first in line
        return self._alike(first, free) if self._prefers_alike else first

    def _alike(self, first: Candidate, free: Sequence[Candidate]) -> Candidate:
        """A prompt of the same client that shares passes with what is at work, unless that would be unfair."""
        at_work = {each.likeness for each in self._at_work.values() if each.likeness}
        near = takewhile(
            lambda each: not each.is_placed, free[free.index(first) : free.index(first) + PLACES_AHEAD + 1]
        )
        found = next((each for each in near if each.client == first.client and each.likeness in at_work), first)
        times = self._overtaken[1] if self._overtaken[0] == first.id else 0
        if found is first or times >= PLACES_AHEAD:
            return first
        self._overtaken = first.id, times + 1
        return found

    def beside(self, chosen: Candidate, waiting: Sequence[Candidate]) -> list[Candidate]:
        """Those that will probably be claimed after it, and run beside it."""
        free = [each for each in waiting if each is not chosen and not each.runs_alone]
        if self._one_a_client:
            taken = {chosen.client, *(each.client for each in self._at_work.values())}
            free = list({each.client: each for each in reversed(free) if each.client not in taken}.values())
        return free[: max(0, self.concurrency - len(self._at_work) - 1)]

    def _charge(self) -> None:
        """Share the time since the last look among those at work."""
        now = self._clock()
        for each in self._at_work.values():
            self._seconds[each.client] = self._seconds.get(each.client, 0.0) + (now - self._looked) / len(self._at_work)
        self._looked = now

    def _account(self, client: str) -> float:
        return max(self._seconds.get(client, 0.0), self._least)
