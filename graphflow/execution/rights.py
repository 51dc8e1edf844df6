"""Who computes a node: this run, another one of this process, another process, or nobody, because it is known.

The right to compute a recipe is taken once and kept until the node is done or has failed; whoever needs the same in the
meantime waits for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b

from ..cache import Cache, Checkpoint, Entry, Lease, Origin
from ..plan.fingerprint import Fingerprint
from ..values import Encoded

__all__ = ["Elsewhere", "Found", "InOtherProcess", "Mine", "Rights"]


@dataclass(slots=True)
class Mine:
    """This run is to compute it."""

    recipe: bytes
    """What the result is kept under."""
    key: bytes | None = None
    lease: Lease | None = None
    keeps: bool = True
    """Whether another run could ever need the result."""
    in_memory: bool = False
    """Only a run of this process."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """One for each of its calls."""


@dataclass(frozen=True, slots=True)
class Found:
    """It is known already."""

    entry: Entry
    reason: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another run of this process is at it."""

    result: Future[Entry | None]


class InOtherProcess:
    """Look again in a moment."""


class Rights:
    """The rights that one run holds."""

    def __init__(self, cache: Cache, refresh: bool) -> None:
        self._cache, self._refresh = cache, refresh
        self._held: dict[str, Mine] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._held

    def take(
        self, node_id: str, mine: Fingerprint, key: bytes | None, looked_outside: bool, origin: Callable[[], Origin],
        is_valid: Callable[[Entry], bool],
    ) -> Mine | Found | Elsewhere | InOtherProcess:  # fmt: skip
        """`key` names the node with the contents of its inputs. `looked_outside`: it stands on something that depends on
        more than recipes tell."""
        recipe, by_recipe = mine.recipe, not (mine.is_volatile or mine.is_open or looked_outside)
        cache = self._cache
        if not cache.is_on:
            self._held[node_id] = Mine(recipe, keeps=False)
            return self._held[node_id]
        place = recipe if by_recipe else key
        if place is None:  # nobody else can need the same
            place = secrets.token_bytes(16) if mine.is_volatile or looked_outside else recipe
        if key is not None and not self._refresh:
            same = cache.find(key)
            if same is not None and same.outputs is not None and is_valid(same):
                if by_recipe:
                    cache.put_again(place, key, same, origin())
                return Found(same, "same content")
        flying = cache.begin(place)
        if flying is not None:
            return Elsewhere(flying)
        ours, lease = cache.lease(place)
        if not ours:
            cache.end(place, None)
            return InOtherProcess()
        keeps = key is not None or not (mine.is_volatile or looked_outside)
        held = self._held[node_id] = Mine(place, key, lease, keeps, in_memory=key is None and mine.is_open)
        if not self._refresh:
            entry = cache.get(place)  # another run may have finished between the planning and now
            if entry is not None and entry.outputs is not None and is_valid(entry):
                self.give_back(node_id, entry)
                return Found(entry, "shared")
        return held

    def checkpoint(self, node_id: str, call: int, calls: int, every: float) -> Checkpoint | None:
        """Where a call of the node keeps its state; a node that is mapped has one for each call."""
        mine = self._held.get(node_id)
        if mine is None or not mine.keeps:
            return None
        place = mine.recipe if calls == 1 else blake2b(b"%d;" % call + mine.recipe, digest_size=16).digest()
        found = self._cache.checkpoint(place, every, self._refresh)
        if found is not None:
            mine.checkpoints.append(found)
        return found

    def store(self, node_id: str, entry: Entry, encoded: tuple[Encoded, ...] | None, origin: Origin | None) -> None:
        """The node is done: keep the entry and give the right back. No origin: it is not to be kept."""
        mine = self._held[node_id]
        keeps = origin is not None and mine.keeps
        if self._refresh and mine.keeps and self._cache.is_on:
            self._cache.replace(mine.recipe, mine.key, entry if keeps else None)
        if origin is None or not mine.keeps:
            self.give_back(node_id, None)
            for checkpoint in mine.checkpoints:
                checkpoint.drop()
        else:
            del self._held[node_id]
            stored = None if mine.in_memory else encoded
            self._cache.put(mine.recipe, mine.key, entry, stored, origin, mine.lease, mine.checkpoints)
            self._cache.end(mine.recipe, entry)

    def give_back(self, node_id: str, entry: Entry | None = None) -> None:
        """Without an entry, whoever waits has to try."""
        mine = self._held.pop(node_id, None)
        if mine is None or not self._cache.is_on:
            return
        self._cache.end(mine.recipe, entry)
        if mine.lease is not None:
            self._cache.give_back(mine.lease)

    def give_all_back(self) -> None:
        for node_id in list(self._held):
            self.give_back(node_id)
