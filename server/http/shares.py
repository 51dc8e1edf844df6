"""Places that network addresses take: connections, websockets, long polls. No address can take them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

__all__ = ["Shares"]


class Shares:
    """`most` places, of which one address has at most the `share`, a number up to 1; those that are `free` may have
    all."""

    def __init__(self, most: int, share: float, free: Collection[str] = ()) -> None:
        self.most, self._free = most, frozenset(free)
        self.most_of_one = max(1, int(most * share))
        self._taken: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        """Places that are taken."""
        return self._total

    def take(self, address: str) -> bool:
        """Take a place; False where none is left for this address."""
        is_full = self._taken[address] >= self.most_of_one and address not in self._free
        if is_full or self._total >= self.most:
            return False
        self._taken[address] += 1
        self._total += 1
        return True

    def give_back(self, address: str) -> None:
        self._total -= 1
        self._taken[address] -= 1
        if self._taken[address] <= 0:
            del self._taken[address]

    @contextmanager
    def taken(self, address: str) -> Iterator[bool]:
        """A place for the time of the block, and whether there was one."""
        has = self.take(address)
        try:
            yield has
        finally:
            if has:
                self.give_back(address)
