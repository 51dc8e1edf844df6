"""The cache that an engine asks: it finds, makes and keeps entries, and lets one run compute what several need."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from ..problem import CacheWarning, Problem
from ..values import Encoded, Uncopyable, Unstorable, copied, encode
from .checkpoint import Checkpoint
from .disk import DiskTier
from .entry import Brought, CacheEntry, Origin
from .leases import Lease
from .memory import DEFAULT_BUDGET, MemoryTier
from .remote import RemoteTier
from .store import Alias, Put, Replace, Store
from .tiers import Tiers

__all__ = ["COMPILED", "Cache", "compiled_folder", "default_folder"]

COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Torch's name for the folder of what its inductor makes."""


def default_folder() -> Path:
    """`$GRAPHFLOW_CACHE`, or the user's cache folder."""
    named = os.environ.get("GRAPHFLOW_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("graphflow")


def compiled_folder() -> Path:
    """The folder of compiled code (see docs/devices.md)."""
    return Path(os.environ.get(COMPILED) or default_folder() / "compiled")


class Cache:
    """The results that an engine remembers. Thread-safe; several engines may use one.

    `Cache()` lasts as long as the process, `Cache(folder)` longer; `Cache(remote=url)` is shared by machines, with or
    without a folder in between; `Cache(memory=0)` keeps nothing at all. `memory` and `size` are the bytes that memory
    and the folder may hold.

    No trouble with the cache fails a run. It goes to `problems`, and to `warn`, or else to `warnings.warn` as a
    CacheWarning.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        memory: int = DEFAULT_BUDGET,
        size: int | None = None,
        remote: str | None = None,
        warn: Callable[[Problem], None] | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        """Every trouble so far."""
        self._warn = _warned if warn is None else warn
        self.memory = MemoryTier(memory)
        self.disk = DiskTier(Path(folder), size, self._report) if folder is not None else None
        self.shared = RemoteTier(remote, self._report) if remote else None
        behind: list[Store] = [store for store in (self.disk, self.shared) if store is not None]
        self._tiers = Tiers(self.memory, behind, self._written)
        self._holders = 0
        self._holding = Lock()
        self._flying: dict[bytes, Future[CacheEntry | None] | None] = {}
        """The recipes that runs of this process compute; a future where somebody waits for one."""
        self._lock = Lock()

    @property
    def is_on(self) -> bool:
        return self.memory.budget > 0 or self.disk is not None or self.shared is not None

    def _report(self, problem: Problem) -> None:
        self.problems.append(problem)
        self._warn(problem)

    # -- finding ----------------------------------------------------------------------------------------------------

    def get(self, recipe: bytes) -> CacheEntry | None:
        """The entry of a recipe; its values are to be handed out through `values.share`."""
        held = self.memory.get(recipe)
        return held.entry if held is not None else self._tiers.get(recipe)

    def find(self, key: bytes) -> CacheEntry | None:
        """The entry of any recipe that had the same node, literals and input contents."""
        return self._tiers.find(key)

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> CacheEntry | None:
        """The entry of a recipe, or of a key, without its outputs; it does not count as use."""
        return self._tiers.peek(recipe, key)

    def touch(self, recipe: bytes) -> None:
        """A run goes without computing this recipe: that is a hit, and while the run lasts nobody evicts its entry."""
        if self.disk is not None:
            self._tiers.touch(recipe)

    def fetch(self, recipes: Sequence[bytes]) -> None:
        """A run is about to ask for these recipes: the shared level is asked for all of them at once."""
        self._tiers.fetch(recipes)

    def origins(self, kind: str) -> Iterator[tuple[Origin, float]]:
        """The origins of earlier entries of a node type, and when they were made (Unix time)."""
        return self._tiers.origins(kind)

    # -- keeping ----------------------------------------------------------------------------------------------------

    def make(
        self,
        outputs: tuple[Any, ...],
        ui: dict[str, Any] | None,
        seconds: float,
        brought: tuple[Brought, ...] = (),
        effect: str | None = None,
    ) -> tuple[CacheEntry, tuple[Encoded, ...] | None]:
        """An entry, with the stored form of its outputs if all of them have one. May take milliseconds."""
        encoded: list[Encoded | None] = []
        for value in outputs:
            try:
                encoded.append(encode(value))
            except Unstorable:
                encoded.append(None)
        contents = tuple(item.content if item is not None else None for item in encoded)
        whole = tuple(item for item in encoded if item is not None)
        try:
            kept = tuple([copied(value) for value in outputs])
            entry = CacheEntry(kept, contents, copied(ui), seconds, time.time(), brought, effect)
        except Uncopyable:
            return CacheEntry(outputs, contents, ui, seconds, time.time(), loose=True), None
        return entry, whole if len(whole) == len(encoded) else None

    def put(
        self,
        recipe: bytes,
        key: bytes | None,
        entry: CacheEntry,
        encoded: tuple[Encoded, ...] | None,
        origin: Origin,
        lease: Lease | None = None,
        states: tuple[bytes, ...] = (),
    ) -> None:
        """Keep an entry; when other processes can find it, the lease is given back, and the checkpoints of these names
        are dropped."""
        if self._tiers.put(Put(recipe, key, entry, origin, encoded, lease=lease, states=states)):
            return
        if encoded is None:
            self.drop_states(states)
        if lease is not None:
            self.give_back(lease)

    def _written(self, put: Put, kept: bool) -> None:
        if self.disk is None:
            return
        if kept:
            self.drop_states(put.states)
        if put.lease is not None:
            self.disk.give_back(put.lease)

    def hold(self, recipe: bytes, entry: CacheEntry) -> None:
        """Keep an entry in memory, and nowhere else."""
        self.memory.put(recipe, entry)

    def put_again(self, recipe: bytes, key: bytes, entry: CacheEntry, origin: Origin) -> None:
        """Keep a known entry under one more recipe."""
        self._tiers.change(Alias(recipe, key, entry, origin))

    def replace(self, recipe: bytes, key: bytes | None, entry: CacheEntry | None) -> None:
        """A refreshed run has computed a recipe anew (None: its result is not kept). Entries that differ from it, of
        this recipe or of another one of the same key, are forgotten, and so are all that stand on them."""
        self._tiers.change(Replace(recipe, key, entry))

    def flush(self) -> None:
        """Wait until everything is written."""
        self._tiers.flush()

    def clear(self) -> bool:
        """Forget everything but what lies on the shared level; whether the folder is empty now."""
        self.flush()
        self.memory.clear()
        return self.disk is None or self.disk.clear()

    # -- one computation for all who need it ------------------------------------------------------------------------

    def begin(self, recipe: bytes) -> Future[CacheEntry | None] | None:
        """None: compute it, and call `end`. A future: another run of this process computes it."""
        with self._lock:
            if recipe not in self._flying:
                self._flying[recipe] = None
                return None
            flying = self._flying[recipe]
            if flying is None:
                flying = self._flying[recipe] = Future()
            return flying

    def end(self, recipe: bytes, entry: CacheEntry | None) -> None:
        """It is computed, or (None) it failed and whoever waits has to try."""
        with self._lock:
            flying = self._flying.pop(recipe, None)
        if flying is not None:
            flying.set_result(entry if entry is not None and not entry.loose else None)

    def lease(self, recipe: bytes) -> tuple[bool, Lease | None]:
        """(whether to compute it: no other process does, the lease if there are leases here)"""
        if self.disk is None or not self.disk.can_keep:
            return True, None
        try:
            lease = self.disk.lease(recipe)
        except OSError:
            return True, None
        return lease is not None, lease

    def give_back(self, lease: Lease) -> None:
        if self.disk is not None:
            self.disk.give_back(lease)

    def checkpoint(self, recipe: bytes, every: float, fresh: bool = False) -> Checkpoint | None:
        """Where a node may keep its state; a `fresh` one starts from nothing, whatever is there."""
        if self.disk is None or not self.disk.can_keep:
            return None
        return Checkpoint(self.disk, recipe, every, fresh, self.shared)

    def drop_states(self, names: Iterable[bytes]) -> None:
        """The checkpoints of these names are of no use any more."""
        if self.disk is not None:
            for name in names:
                self.disk.checkpoints.remove(name)
                if self.shared is not None:
                    self.shared.drop_state(name)

    # -- runs -------------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it lasts, no process evicts what is used; after it, everything is written."""
        if self.shared is not None:
            self.shared.begin_run()
        if self.disk is None:
            try:
                yield
            finally:
                self.flush()
            return
        self.open()
        lease = self.disk.begin_run()
        try:
            yield
        finally:
            self.flush()
            self.disk.end_run(lease)
            with self._holding:
                self._holders -= 1

    def __enter__(self) -> Cache:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Use it until `close`; several may."""
        with self._holding:
            self._holders += 1
            if self.disk is not None:
                self.disk.open()

    def close(self) -> None:
        """The last to close it writes everything down and gives its files and the connection back. Who uses it again
        opens it again; what it has in memory stays."""
        with self._holding:
            self._holders = max(0, self._holders - 1)
            if not self._holders:
                self.flush()
                if self.disk is not None:
                    self.disk.close()


def _warned(problem: Problem) -> None:
    with suppress(Warning):  # where warnings are errors: trouble with the cache fails no run
        warnings.warn(str(problem), CacheWarning, stacklevel=2)
