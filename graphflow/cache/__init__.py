"""The cache of unchanged outputs: a memory tier, a disk tier that many processes share, and a remote level behind it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from ..problem import Problem
from ..values import Encoded, Uncopyable, Unstorable, copied, encode
from .disk import DiskTier, Verified
from .entry import Brought, Entry, LongLiteral, Origin, literal_digest
from .folder import own_folder
from .index import TypeStats, origin_of
from .leases import Lease
from .memory import DEFAULT_BUDGET, MemoryTier
from .remote import Remote

__all__ = [
    "Brought",
    "Cache",
    "Checkpoint",
    "Entry",
    "Lease",
    "LongLiteral",
    "MemoryTier",
    "Origin",
    "TypeStats",
    "Verified",
    "default_folder",
    "literal_digest",
    "own_folder",
]


def default_folder() -> Path:
    """`$GRAPHFLOW_CACHE`, or the user's cache folder."""
    named = os.environ.get("GRAPHFLOW_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("graphflow")


class Cache:
    """What an engine remembers. Thread-safe; several engines may use one.

    `Cache()` lasts as long as the process, `Cache(folder)` longer; `Cache(memory=0)` keeps nothing at all.
    """

    def __init__(
        self, folder: Path | str | None = None, *, memory: int = DEFAULT_BUDGET, size: int | None = None,
        remote: str | None = None, warn: Callable[[Problem], None] | None = None,
    ) -> None:  # fmt: skip
        self.problems: list[Problem] = []
        """What went wrong with the cache; no run failed of it."""
        self._warn = warn
        self.memory = MemoryTier(memory)
        second = Remote(remote, self._report) if remote and folder is not None else None
        self.disk = (
            DiskTier(Path(folder), size, self._report, second, self.memory.forget, self._store_again)
            if folder is not None
            else None
        )
        self._holders = 0
        self._holding = Lock()
        self._flying: dict[bytes, Future[Entry | None]] = {}
        self._lock = Lock()

    @property
    def is_on(self) -> bool:
        return self.memory.budget > 0 or self.disk is not None

    def _report(self, problem: Problem) -> None:
        self.problems.append(problem)
        if self._warn is not None:
            self._warn(problem)

    def get(self, recipe: bytes) -> Entry | None:
        """The entry of a recipe; its values are to be handed out through `values.share`."""
        found = self.memory.get(recipe)
        if found is None and self.disk is not None:
            read = self.disk.get(recipe)
            if read is not None:
                found, row = read
                if found.outputs is not None:
                    self.memory.put(recipe, found, row.key, origin_of(row), is_stored=True)
        return found

    def touch(self, recipe: bytes) -> None:
        """A run goes without computing this recipe: that is a hit, and while the run lasts nobody evicts its entry."""
        if self.disk is not None:
            self.disk.touch(recipe)

    def find(self, key: bytes) -> Entry | None:
        """The entry of whatever recipe had the same node, literals and input contents."""
        found = self.memory.find(key)
        return self.disk.find(key) if found is None and self.disk is not None else found

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> Entry | None:
        """What is known of a recipe, or of a key, without reading its outputs and without counting it as use."""
        found = self.memory.peek(recipe, key)
        return self.disk.peek(recipe, key) if found is None and self.disk is not None else found

    def fetch(self, recipes: list[bytes]) -> None:
        """Let the disk tier ask the remote level for recipes that are not known here."""
        if self.disk is not None:
            self.disk.fetch(recipes)

    def make(
        self,
        outputs: tuple[Any, ...],
        ui: dict[str, Any] | None,
        seconds: float,
        brought: tuple[Brought, ...] = (),
        effect: str | None = None,
    ) -> tuple[Entry, tuple[Encoded, ...] | None]:
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
            entry = Entry(kept, contents, copied(ui), seconds, time.time(), brought, effect)
        except Uncopyable:
            return Entry(outputs, contents, ui, seconds, time.time(), loose=True), None
        return entry, whole if len(whole) == len(encoded) else None

    def put(
        self, recipe: bytes, key: bytes | None, entry: Entry, encoded: tuple[Encoded, ...] | None, origin: Origin,
        lease: Lease | None = None, checkpoints: Sequence[Checkpoint] = (),
    ) -> None:  # fmt: skip
        """Keep an entry; the lease is given back, and the checkpoints are dropped, when other processes can find it."""
        if not entry.loose:
            self.memory.put(recipe, entry, key, origin, is_stored=encoded is not None)
        states = tuple([checkpoint.name for checkpoint in checkpoints])
        if encoded is not None and self.disk is not None:
            if self.disk.put(recipe, key, entry, encoded, origin, lease, states):
                return
        else:
            for checkpoint in checkpoints:
                checkpoint.drop()
        if lease is not None:
            self.give_back(lease)

    def replace(self, recipe: bytes, key: bytes | None, entry: Entry | None) -> None:
        """A refreshed run has computed a recipe anew (None: what it gave is not kept): what says something else for it,
        or for another recipe of the same key, is forgotten, and so is what stands on that."""
        stale = self.memory.replace(recipe, key, entry)
        if self.disk is not None:
            self.disk.replace(recipe, key, entry, stale)

    def put_again(self, recipe: bytes, key: bytes, entry: Entry, origin: Origin) -> None:
        """Keep a known entry under one more recipe."""
        self.memory.put(recipe, entry, key, origin, is_stored=None not in entry.contents)
        if self.disk is not None:
            self.disk.put_again(recipe, key, origin)

    def _store_again(self, recipes: list[bytes]) -> None:
        """Somebody has removed from the folder what this process still has in memory, and uses."""
        for recipe in recipes:
            held = self.memory.stored(recipe)
            if held is not None and self.disk is not None and held[0].outputs is not None:
                entry, key, origin = held
                with suppress(Unstorable):
                    encoded = tuple([encode(value) for value in held[0].outputs])
                    self.disk.put(recipe, key, entry, encoded, origin)

    # -- one computation for all who need it ------------------------------------------------------------------------

    def begin(self, recipe: bytes) -> Future[Entry | None] | None:
        """None: compute it, and call `end`. A future: another run of this process is at it."""
        with self._lock:
            flying = self._flying.get(recipe)
            if flying is None:
                self._flying[recipe] = Future()
            return flying

    def end(self, recipe: bytes, entry: Entry | None) -> None:
        """It is computed, or (None) it failed and whoever waits has to try."""
        with self._lock:
            flying = self._flying.pop(recipe, None)
        if flying is not None:
            flying.set_result(entry if entry is not None and not entry.loose else None)

    def lease(self, recipe: bytes) -> tuple[bool, Lease | None]:
        """(whether to compute it: no other process is at it, the lease if there are leases here)"""
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

    # -- the rest ---------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it lasts, what is used is safe from eviction, by other processes, too; after it, all is on the disk."""
        if self.disk is None:
            yield
            return
        self.open()
        lease = self.disk.begin_run()
        try:
            yield
        finally:
            self.disk.end_run(lease)
            with self._holding:
                self._holders -= 1

    def checkpoint(self, recipe: bytes, every: float, fresh: bool = False) -> Checkpoint | None:
        """Where a node may keep its state; a `fresh` one starts from nothing, whatever is there."""
        return Checkpoint(self.disk, recipe, every, fresh) if self.disk is not None and self.disk.can_keep else None

    def origins(self, kind: str) -> Iterator[tuple[Origin, float]]:
        """What earlier entries of a node type were made from, and when (Unix time)."""
        for origin, entry in self.memory.origins(kind):
            yield origin, entry.created
        if self.disk is not None:
            yield from self.disk.origins(kind)

    def flush(self) -> None:
        if self.disk is not None:
            self.disk.flush()

    def clear(self) -> bool:
        """Forget everything; whether the folder is empty now."""
        self.memory.clear()
        return self.disk is None or self.disk.clear()

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
        """The last to close it writes all down and gives its files and the connection back. Who uses it again opens it
        again; what it has in memory stays."""
        with self._holding:
            self._holders = max(0, self._holders - 1)
            if self.disk is not None and not self._holders:
                self.disk.close()


class Checkpoint:
    """Where a long node keeps its state, so that the same recipe started again goes on from there."""

    def __init__(self, disk: DiskTier, name: bytes, every: float, fresh: bool = False) -> None:
        self.name = name
        self._disk, self._every, self._fresh = disk, every, fresh
        self._last = time.monotonic()

    def load(self) -> Any:
        return None if self._fresh else self._disk.load_checkpoint(self.name)

    def save(self, make: Callable[[], Any], at_once: bool = False) -> None:
        """Store `make()` if it is time, or at once."""
        if at_once or time.monotonic() - self._last >= self._every:
            self._disk.save_checkpoint(self.name, make())
            self._last = time.monotonic()

    def drop(self) -> None:
        self._disk.drop_checkpoint(self.name)
