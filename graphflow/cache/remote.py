"""A level that machines share, on any fsspec URL (`s3://bucket/prefix`, `file:///shared/cache` ...), as a store.

It holds records and blobs, as a cache folder does, and for each key the recipe of the newest record that has it.
Where it cannot be reached, there is one warning, and it is left alone for a while; the run goes on.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from ..problem import Problem
from ..values import Encoded, decode
from . import record
from .blobs import Damaged, Files, digest_of
from .entry import CacheEntry, Origin
from .index import origin_of
from .rows import EntryRow, Stored
from .store import WORTH_A_RECORD, Batch, Kept, Put, Replace, Written, entry_of, row_of

__all__ = ["RemoteTier"]

RETRY = 60.0
AT_ONCE = 2000
"""Records asked for at most in one run: beyond that, asking takes longer than it saves."""
KEYS_AT_MOST = 200
"""Keys asked for at most in one run: each is a request of its own, just before a node would be computed."""
REMEMBERED = 4 * AT_ONCE
"""Records that were fetched and are still in memory, at most."""
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}},
}


class RemoteTier:
    """The records, blobs and keys below one URL. Opening it touches no network."""

    def __init__(self, url: str, warn: Callable[[Problem], None] = lambda _: None) -> None:
        self.url = url.rstrip("/")
        self._report = warn
        self._warned: set[str] = set()
        self._off_until = 0.0
        self._asked: set[bytes] = set()
        """Keys that this run has asked for."""
        self._rows: OrderedDict[bytes, EntryRow] = OrderedDict()
        """Records that were fetched, newest last."""
        self._states: set[bytes] = set()
        """States that lie here, as far as this process knows."""
        self._lock = Lock()
        self._seals = Files(Path(), sealed=True)
        self._system: Any = None
        self._root = ""

    @property
    def can_keep(self) -> bool:
        return time.monotonic() >= self._off_until

    # -- reading ----------------------------------------------------------------------------------------------------

    def begin_run(self) -> None:
        """Each run asks for its keys anew."""
        self._asked.clear()

    def fetch(self, recipes: Sequence[bytes]) -> None:
        """Look for the records of all of these, side by side."""
        for recipe, data in self._records(recipes).items():
            with suppress(Damaged, ValueError, KeyError):
                row = record.read(self._seals.check(recipe, data))
                if row.recipe == recipe:
                    self._remember(row)

    def get(self, recipe: bytes) -> Kept | None:
        """An entry whose record was fetched; its blobs are read now."""
        row = self._rows.get(recipe)
        return self._read(row) if row is not None else None

    def find(self, key: bytes) -> Kept | None:
        sealed = self.key(key)
        if sealed is None:
            return None
        try:
            recipe = self._seals.check(key, sealed)
        except Damaged:
            return None
        self.fetch([recipe])
        row = self._rows.get(recipe)
        return self._read(row) if row is not None and row.key == key else None

    def peek(self, recipe: bytes | None, key: bytes | None = None) -> CacheEntry | None:
        """Of what was fetched."""
        with self._lock:
            rows = [self._rows.get(recipe)] if recipe is not None else [r for r in self._rows.values() if r.key == key]
        row = rows[-1] if rows else None
        return entry_of(row, None) if row is not None else None

    def origins(self, kind: str) -> list[tuple[Origin, float]]:
        """Of what was fetched."""
        with self._lock:
            rows = [row for row in reversed(self._rows.values()) if row.type == kind]
        found = ((origin_of(row), row.created) for row in rows)
        return [(origin, created) for origin, created in found if origin is not None]

    def key(self, key: bytes) -> bytes | None:
        """The recipe that lies under a key, sealed. Asked once in a run, however often somebody looks."""
        if key in self._asked or len(self._asked) >= KEYS_AT_MOST:
            return None
        self._asked.add(key)
        return self._file("keys", key)

    def _remember(self, row: EntryRow) -> None:
        with self._lock:
            self._rows[row.recipe] = row
            self._rows.move_to_end(row.recipe)
            if len(self._rows) > REMEMBERED:
                self._rows.popitem(last=False)

    def _forget(self, recipes: Iterable[bytes]) -> None:
        with self._lock:
            for recipe in recipes:
                self._rows.pop(recipe, None)

    def _read(self, row: EntryRow) -> Kept | None:
        """The whole entry; None where a blob is gone or damaged."""
        try:
            encoded = tuple([Encoded(item.content, None if row.rebuilt else self._data(item)) for item in row.outputs])
            outputs = None if row.rebuilt else tuple([decode(item.data or b"") for item in encoded])
        except _RemoteBlobGone:
            self._forget([row.recipe])
            return None
        except Exception as error:  # no memory, no codec: the blob may be good
            self._warn("cache_unreadable", f"a stored result cannot be read and is computed again: {error}")
            return None
        return Kept(entry_of(row, outputs), row.recipe, row.key, origin_of(row), encoded)

    def _data(self, item: Stored) -> bytes:
        data = item.data if item.data is not None else self._file("blobs", item.content)
        if data is None:
            raise _RemoteBlobGone()
        if digest_of(data) != item.content:
            self._remove("blobs", [item.content])  # whoever computes it again stores it again
            self._warn(
                "cache_damaged",
                "a stored result was damaged; it is computed again and replaced: "
                f"{self.url}/v2/blobs/{item.content.hex()}",
            )
            raise _RemoteBlobGone()
        return data

    def _records(self, recipes: Sequence[bytes]) -> dict[bytes, bytes]:
        def ask(system: Any) -> dict[bytes, bytes]:
            paths = {self._path("records", recipe): recipe for recipe in recipes[:AT_ONCE]}
            found = system.cat(list(paths), on_error="return")
            answers = {path.lstrip("/"): data for path, data in found.items()}
            known = {}
            for path, recipe in paths.items():
                data = answers.get(path.lstrip("/"))
                if isinstance(data, bytes):
                    known[recipe] = data
                elif isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                    raise data
            return known

        return (self._try(ask) or {}) if recipes else {}

    def _file(self, kind: str, name: bytes) -> bytes | None:
        def ask(system: Any) -> bytes | None:
            try:
                return bytes(system.cat_file(self._path(kind, name)))
            except FileNotFoundError:
                return None

        found: bytes | None = self._try(ask)
        return found

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> Written:
        """Send entries; forget keys whose result is computed anew, and records that a refreshed run has made wrong."""
        gone = set(batch.gone)
        for change in batch.changes:
            if isinstance(change, Put):
                gone.discard(change.recipe)
                if not change.is_shared:
                    self._push(change)
            elif isinstance(change, Replace):
                gone |= {change.recipe, *change.stale}
                if change.key is not None:
                    self._remove("keys", [change.key])
        if gone:
            self._forget(gone)
            self._remove("records", gone)
        return Written(kept=self.can_keep)

    def _push(self, put: Put) -> None:
        """Blobs first, the key last: no name leads to what is not there."""
        row = row_of(put)
        names = set(row.blobs())
        if not names and row.seconds < WORTH_A_RECORD:
            return

        def send(system: Any) -> None:
            for item in put.encoded or ():
                path = self._path("blobs", item.content)
                if item.content in names and item.data is not None and not system.exists(path):
                    self._put(system, path, item.data)
            self._put(system, self._path("records", row.recipe), self._seals.seal(row.recipe, record.write(row)))
            if row.key is not None:
                self._put(system, self._path("keys", row.key), self._seals.seal(row.key, row.recipe))

        self._try(send)

    def _put(self, system: Any, path: str, data: bytes) -> None:
        if "file" in system.protocol:  # the others make a file visible only when it is whole
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            part = f"{path}.{time.monotonic_ns()}.part"
            system.pipe_file(part, data)
            system.mv(part, path)
        else:
            system.pipe_file(path, data)

    def _remove(self, kind: str, names: Iterable[bytes]) -> None:
        def remove(system: Any) -> None:
            for name in names:
                with suppress(FileNotFoundError):
                    system.rm_file(self._path(kind, name))

        self._try(remove)

    # -- states of nodes that were stopped half-way -----------------------------------------------------------------

    def state(self, name: bytes) -> bytes | None:
        """The last state that any machine has stored. Raises Damaged."""
        sealed = self._file("states", name)
        if sealed is None:
            return None
        self._states.add(name)
        return self._seals.check(name, sealed)

    def keep_state(self, name: bytes, data: bytes) -> None:
        def send(system: Any) -> None:
            self._put(system, self._path("states", name), self._seals.seal(name, data))

        self._states.add(name)
        self._try(send)

    def drop_state(self, name: bytes) -> None:
        """It is of no use any more. One that this process has neither stored nor read is left alone: that costs no
        request."""
        if name in self._states:
            self._states.discard(name)
            self._remove("states", [name])

    # -- the file system --------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        if self._system is None:
            from fsspec.core import url_to_fs

            protocol = self.url.partition("://")[0]
            self._system, self._root = url_to_fs(self.url, **OPTIONS.get(protocol, {}))
            self._root = self._root.rstrip("/") + "/v2"
        return self._system

    def _path(self, kind: str, name: bytes) -> str:
        text = name.hex()
        return f"{self._root}/{kind}/{text[:2]}/{text}"

    def _try(self, work: Callable[[Any], Any]) -> Any:
        if time.monotonic() < self._off_until:
            return None
        try:
            return work(self._open())
        except Exception as error:  # each file system behind fsspec raises its own kinds
            self._off_until = time.monotonic() + RETRY
            self._warn(
                "cache_remote", f"the remote cache {self.url} cannot be used: {error}", "the run goes on without it"
            )
            return None

    def _warn(self, code: str, message: str, hint: str | None = None) -> None:
        if code not in self._warned:
            self._warned.add(code)
            self._report(Problem(code, message, hint=hint))


class _RemoteBlobGone(Exception):
    """A blob that an entry needs is not there, or not as it was written."""
