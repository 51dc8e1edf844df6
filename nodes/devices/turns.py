"""Whose work a device does next.

Time is divided evenly between owners (the clients of a server), by measured seconds: of those who want something, the
one that has had least is next (start-time fair queuing, Goyal et al. 1996). Of the samplers of one owner the one with
least left to do goes first, as this makes their mean time the shortest (Schrage 1968): equal ones end one after the
other as if they were alone, and a short one does not wait for a long one. Who has waited for long goes before all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

__all__ = ["DeviceTurns", "Rank"]

Rank = tuple[bool, float, float, float]
"""The order of those who wait: the lowest goes first."""
LONGEST_WAIT = 2.0
"""Seconds after which a question goes before all others; in terms of passes, at least:"""
LONGEST_WAIT_IN_PASSES = 8.0
MOST_ACCOUNTS = 1000


class DeviceTurns:
    """The accounts of the owners. The caller keeps threads apart."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}
        self._least = 0.0
        """The least that an account holds: who comes back after a pause has saved no time up."""

    def charge(self, owners: Iterable[Hashable], seconds: float, waiting: Iterable[Hashable] = ()) -> None:
        """Work took so many seconds, for these owners in equal parts. `waiting`: whose work is not done yet."""
        found = list(owners)
        for owner in found:
            self._seconds[owner] = self.account(owner) + seconds / len(found)
        self._least = max(self._least, min(map(self.account, {*found, *waiting}), default=self._least))
        if len(self._seconds) > MOST_ACCOUNTS:
            self._seconds = {owner: used for owner, used in self._seconds.items() if used > self._least}

    def account(self, owner: Hashable) -> float:
        return max(self._seconds.get(owner, 0.0), self._least)

    def rank(self, owner: Hashable, left: float, waited: float, pace: float) -> Rank:
        """Of a question of an owner's sampler that needs `left` more seconds of the device, and has waited. `pace`:
        seconds of a pass."""
        is_old = waited > max(LONGEST_WAIT, LONGEST_WAIT_IN_PASSES * pace)
        return (not is_old, 0.0 if is_old else self.account(owner), 0.0 if is_old else left, -waited)
