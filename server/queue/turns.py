"""Which prompt is claimed next for a worker that holds several: the first in line, but fair between clients.

Each client has an account of seconds. The time in which a worker has n prompts at work is charged to their clients, an
n-th to each prompt. Of the clients that wait, the one with the smallest account is next (start-time fair queuing, Goyal
et al. 1996): who sends a hundred prompts keeps nobody else waiting for more than the prompts at work.

Of one client's prompts the order may change within `PLACES_AHEAD` places: a prompt with a deadline goes first, the
earliest of them before the others; then one that shares passes with what is at work; then one of the model at work.
Where each client has one prompt at work, a short one may run beside its long one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from .accounts import AtWork, ClientAccounts

__all__ = ["AHEAD", "Candidate", "Turns"]

AHEAD = 500
"""Places in the queue that are looked at for another client's prompt."""
SHORT = 0.25
"""A prompt is short beside one of the same model that is longer than it by this factor."""
PLACES_AHEAD = 32
"""A prompt overtakes others of its client over so many places at most, and is overtaken so often at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt that waits."""

    seq: int
    id: str
    client: str
    """The client id, or the sender of a prompt without one."""
    is_placed: bool = False
    """Somebody gave it its place (`front`, `number`, a move), so it keeps it."""
    alone: int = 0
    """1: a worker has died while it ran beside others. 2: so has the machine, with several workers."""
    likeness: str | None = None
    """Equal for prompts that may share passes."""
    model: str | None = None
    length: float | None = None
    """Steps times pixels times images, where they are known."""
    priority: int = 0
    """Those with a higher one go before all others."""
    deadline: float | None = None
    """Unix time."""

    @property
    def runs_alone(self) -> bool:
        return self.alone > 0


class Turns:
    """The prompts that one worker has, and those that may be next for it. With `concurrency` 1 and one worker the
    prompts run in their order, one at a time, but for priorities and deadlines."""

    def __init__(
        self,
        concurrency: int = 1,
        one_a_client: bool = False,
        clock: Callable[[], float] = time.monotonic,
        *,
        prefers_alike: bool = False,
        prefers_model: bool = False,
        accounts: ClientAccounts | None = None,
    ) -> None:
        """`one_a_client`: at most one prompt of each client is at work, as ComfyUI's clients expect of a server; and
        beside it one that is short in comparison, so that it does not wait for a long one.
        `prefers_alike`, `prefers_model`: of one client's prompts, those that share passes with what is at work, or use
        the model that was used last, may overtake others. `accounts`: those of all workers."""
        self.concurrency, self._one_a_client = concurrency, one_a_client
        self._prefers_alike, self._prefers_model = prefers_alike, prefers_model
        self.accounts = accounts if accounts is not None else ClientAccounts(clock)
        self._at_work: dict[str, AtWork] = {}
        self._overtaken: tuple[str, int] = ("", 0)
        """The prompt that was overtaken last, and how often."""
        self._model: str | None = None
        """The model that was used last."""

    @property
    def has_room(self) -> bool:
        return len(self._at_work) < self.concurrency and not self.is_kept_free

    @property
    def is_kept_free(self) -> bool:
        """A prompt that runs alone is at work: here, or one that no worker may run anything beside."""
        return any(each.alone for each in self._at_work.values()) or self.accounts.is_closed

    @property
    def clients(self) -> list[str]:
        """Of the prompts at work."""
        return [each.client for each in self._at_work.values()]

    @property
    def look_ahead(self) -> int:
        """How many of those that wait `choose` needs to see."""
        return 1 if self._is_strict else AHEAD

    @property
    def _is_strict(self) -> bool:
        """The order is that of the queue."""
        return self.concurrency == 1 and not self._prefers_model and not self._prefers_alike

    def began(
        self,
        prompt_id: str,
        client: str,
        alone: int = 0,
        likeness: str | None = None,
        model: str | None = None,
        length: float | None = None,
    ) -> None:
        begun = self._at_work[prompt_id] = AtWork(client, int(alone), likeness, model, length)
        self.accounts.began(self, prompt_id, begun)
        self._model = model or self._model

    def ended(self, prompt_id: str) -> None:
        self.accounts.ended(self, prompt_id)
        self._at_work.pop(prompt_id, None)

    def choose(self, waiting: Sequence[Candidate], unfit: frozenset[str] = frozenset()) -> Candidate | None:
        """Of prompts in their order, the one to claim now; None where it is better to wait. `unfit`: the ids of those
        that this worker cannot run."""
        if not waiting or not self.has_room:
            return None
        fit = [each for each in waiting if each.id not in unfit] if unfit else waiting
        if not fit:
            return None
        if fit[0].runs_alone:
            beside = self.accounts.has_work if fit[0].alone > 1 else bool(self._at_work)
            return fit[0] if not beside else None
        if self._is_strict:
            return self._preferred(fit[0], _level(fit)) if not fit[0].is_placed else fit[0]
        free = [each for each in fit if not each.runs_alone]
        if self._one_a_client:
            free = self._one_of_each_client(free)
        if not free or free[0].is_placed:
            return free[0] if free else None
        free = _level(free)
        firsts: dict[str, Candidate] = {}
        for each in free:
            firsts.setdefault(each.client, each)
        self.accounts.charge()
        first = min(firsts.values(), key=lambda each: self.accounts.of(each.client))  # of equals, the first in line
        return self._preferred(first, free)

    def _preferred(self, first: Candidate, free: Sequence[Candidate]) -> Candidate:
        """A prompt of the same client that is better taken now, unless that would be unfair."""
        at = free.index(first)
        near = [each for each in free[at : at + PLACES_AHEAD + 1] if each.client == first.client]
        likenesses = {each.likeness for each in self._at_work.values() if each.likeness}

        def rank(each: Candidate) -> tuple[bool, float, bool, bool]:
            other = not (self._prefers_alike and each.likeness in likenesses)
            unlike = not (self._prefers_model and each.model is not None and each.model == self._model)
            return each.deadline is None, each.deadline or 0.0, other, unlike

        found = min(near, key=rank)
        times = self._overtaken[1] if self._overtaken[0] == first.id else 0
        if found is first or times >= PLACES_AHEAD:
            return first
        self._overtaken = first.id, times + 1
        return found

    def _one_of_each_client(self, waiting: Sequence[Candidate]) -> list[Candidate]:
        """Those of clients with nothing at work here, and those that are short beside all that their clients have."""
        at_work: dict[str, list[AtWork]] = {}
        for begun in self._at_work.values():
            at_work.setdefault(begun.client, []).append(begun)
        found, looked = [], Counter[str]()
        for each in waiting:
            looked[each.client] += 1
            mine = at_work.get(each.client, [])
            if not mine or (
                looked[each.client] <= PLACES_AHEAD + 1 and all(_is_short_beside(each, other) for other in mine)
            ):
                found.append(each)
        return found

    def beside(self, chosen: Candidate, waiting: Sequence[Candidate]) -> list[Candidate]:
        """Those that will probably be claimed after it, and run beside it."""
        free = [each for each in waiting if each is not chosen and not each.runs_alone]
        if self._one_a_client:
            taken = {chosen.client, *(each.client for each in self._at_work.values())}
            free = list({each.client: each for each in reversed(free) if each.client not in taken}.values())
        return free[: max(0, self.concurrency - len(self._at_work) - 1)]


def _is_short_beside(one: Candidate, other: AtWork) -> bool:
    if one.length is None or other.length is None or one.model is None or one.model != other.model:
        return False
    return one.length <= SHORT * other.length


def _level(waiting: Sequence[Candidate]) -> list[Candidate]:
    """Those that may overtake each other: of the priority of the first, before one that somebody gave its place."""
    first = waiting[0].priority
    return list(takewhile(lambda each: each.priority == first and not each.is_placed and not each.runs_alone, waiting))
