"""Who computes a node: this run, another run of this process, another process, or nobody, because it is known.

A claim on a recipe is taken once and kept until the node is done or has failed; whoever needs the same in the meantime
waits for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b

from ..cache import Cache, CacheEntry, Lease, Origin
from ..plan.fingerprint import Fingerprint
from ..values import Encoded

__all__ = ["Claim", "Claims", "KnownResult", "InOtherProcess", "InOtherRun"]


@dataclass(slots=True)
class Claim:
    """This run computes it."""

    recipe: bytes
    """The result is kept under it."""
    key: bytes | None = None
    lease: Lease | None = None
    keeps: bool = True
    """Whether another run could ever need the result."""
    in_memory: bool = False
    """Only a run of this process."""
    states: tuple[bytes, ...] = ()
    """For each of its calls the name under which its state is kept."""


@dataclass(frozen=True, slots=True)
class KnownResult:
    """It is known already."""

    entry: CacheEntry
    reason: str


@dataclass(frozen=True, slots=True)
class InOtherRun:
    """Another run of this process computes it."""

    result: Future[CacheEntry | None]


class InOtherProcess:
    """Another process computes it: look again in a moment."""


class Claims:
    """The claims that one run holds."""

    def __init__(self, cache: Cache, refresh: bool) -> None:
        self._cache, self._refresh = cache, refresh
        self._held: dict[str, Claim] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._held

    def take(
        self,
        node_id: str,
        mine: Fingerprint,
        key: bytes | None,
        *,
        looked_outside: bool,
        is_elsewhere: bool = False,
        origin: Callable[[], Origin],
        is_valid: Callable[[CacheEntry], bool],
    ) -> Claim | KnownResult | InOtherRun | InOtherProcess:
        """`key` names the node with the contents of its inputs. `looked_outside`: it stands on something that depends
        on more than is in the recipes. `is_elsewhere`: another engine computes it, and takes the lease where both have
        one cache folder."""
        recipe, by_recipe = mine.recipe, not (mine.is_volatile or mine.is_open or looked_outside)
        cache = self._cache
        if not cache.is_on:
            self._held[node_id] = Claim(recipe, keeps=False)
            return self._held[node_id]
        place = recipe if by_recipe else key
        if place is None:  # nobody else can need the same
            place = secrets.token_bytes(16) if mine.is_volatile or looked_outside else recipe
        if key is not None and not self._refresh:
            same = cache.find(key)
            if same is not None and same.outputs is not None and is_valid(same):
                if by_recipe:
                    cache.put_again(place, key, same, origin())
                return KnownResult(same, "same content")
        flying = cache.begin(place)
        if flying is not None:
            return InOtherRun(flying)
        ours, lease = (True, None) if is_elsewhere else cache.lease(place)
        if not ours:
            cache.end(place, None)
            return InOtherProcess()
        keeps = key is not None or not (mine.is_volatile or looked_outside)
        held = self._held[node_id] = Claim(place, key, lease, keeps, in_memory=key is None and mine.is_open)
        if not self._refresh:
            entry = cache.get(place)  # another run may have finished between the planning and now
            if entry is not None and entry.outputs is not None and is_valid(entry):
                self.give_back(node_id, entry)
                return KnownResult(entry, "shared")
        return held

    def states(self, node_id: str, calls: int) -> tuple[bytes, ...]:
        """For each of the node's calls the name under which it keeps its state; empty if no other run could go on from
        it."""
        claim = self._held.get(node_id)
        if claim is None or not claim.keeps:
            return ()
        if calls == 1:
            claim.states = (claim.recipe,)
        else:
            each = (blake2b(b"%d;" % call + claim.recipe, digest_size=16).digest() for call in range(calls))
            claim.states = tuple(each)
        return claim.states

    def store(
        self, node_id: str, entry: CacheEntry, encoded: tuple[Encoded, ...] | None, origin: Origin | None
    ) -> None:
        """The node is done: keep the entry and give the claim back. No origin: it is not to be kept."""
        claim = self._held[node_id]
        keeps = origin is not None and claim.keeps
        if self._refresh and claim.keeps and self._cache.is_on:
            self._cache.replace(claim.recipe, claim.key, entry if keeps else None)
        if origin is None or not claim.keeps:
            self.give_back(node_id, None)
            self._cache.drop_states(claim.states)
        else:
            del self._held[node_id]
            stored = None if claim.in_memory else encoded
            self._cache.put(claim.recipe, claim.key, entry, stored, origin, claim.lease, claim.states)
            self._cache.end(claim.recipe, entry)

    def give_back(self, node_id: str, entry: CacheEntry | None = None) -> None:
        """Without an entry, whoever waits has to try."""
        claim = self._held.pop(node_id, None)
        if claim is None or not self._cache.is_on:
            return
        self._cache.end(claim.recipe, entry)
        if claim.lease is not None:
            self._cache.give_back(claim.lease)

    def give_all_back(self) -> None:
        for node_id in list(self._held):
            self.give_back(node_id)
