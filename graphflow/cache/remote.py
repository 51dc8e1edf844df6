"""A second level behind the disk tier, on any fsspec URL (`s3://bucket/prefix`, `file:///shared/cache` ...).

It holds the same records and blobs, and for each key the recipe of the newest record that has it.
What is unreachable is said once and left alone for a while; the run goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..problem import Problem

__all__ = ["Remote"]

RETRY = 60.0
AT_ONCE = 2000
"""Records asked for at most in one run: beyond that, asking takes longer than it saves."""
KEYS_AT_MOST = 200
"""Keys asked for at most in one run: each is a request of its own, just before a node would be computed."""
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}},
}


class Remote:
    """Records and blobs by name. Opening one touches no network."""

    def __init__(self, url: str, warn: Callable[[Problem], None] = lambda _: None) -> None:
        self.url = url.rstrip("/")
        self._warn = warn
        self._warned = False
        self._off_until = 0.0
        self._asked: set[bytes] = set()
        """Keys that this run has asked for."""
        self._system: Any = None
        self._root = ""

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

    def records(self, recipes: list[bytes]) -> dict[bytes, bytes]:
        """The records that are there, asked for side by side."""

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

    def begin_run(self) -> None:
        """Each run asks for its keys anew."""
        self._asked.clear()

    def key(self, key: bytes) -> bytes | None:
        """What is written under a key: a recipe, sealed. Asked once in a run, however often somebody looks."""
        if key in self._asked or len(self._asked) >= KEYS_AT_MOST:
            return None
        self._asked.add(key)
        return self._file("keys", key)

    def blob(self, content: bytes) -> bytes | None:
        return self._file("blobs", content)

    def _file(self, kind: str, name: bytes) -> bytes | None:
        def ask(system: Any) -> bytes | None:
            try:
                return bytes(system.cat_file(self._path(kind, name)))
            except FileNotFoundError:
                return None

        found: bytes | None = self._try(ask)
        return found

    def remove_blob(self, content: bytes) -> None:
        """For one that is damaged: whoever computes it again stores it again."""
        self._try(lambda system: system.rm_file(self._path("blobs", content)))

    def remove_records(self, recipes: Iterable[bytes]) -> None:
        """For what a refreshed run has made wrong. A key that leads to one of them leads nowhere."""
        self._remove("records", recipes)

    def remove_key(self, key: bytes) -> None:
        """For one whose result is computed anew: what other machines had for it may be wrong."""
        self._remove("keys", [key])

    def _remove(self, kind: str, names: Iterable[bytes]) -> None:
        def remove(system: Any) -> None:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    system.rm_file(self._path(kind, name))

        self._try(remove)

    def push(
        self, recipe: bytes, record: bytes, blobs: Mapping[bytes, bytes | None], keys: Mapping[bytes, bytes]
    ) -> None:  # fmt: skip
        """Blobs first, keys last: nothing names what is not there. `keys` are sealed recipes by key."""

        def send(system: Any) -> None:
            for content, data in blobs.items():
                path = self._path("blobs", content)
                if data is not None and not system.exists(path):
                    self._put(system, path, data)
            self._put(system, self._path("records", recipe), record)
            for key, sealed in keys.items():
                self._put(system, self._path("keys", key), sealed)

        self._try(send)

    def _put(self, system: Any, path: str, data: bytes) -> None:
        if "file" in system.protocol:  # the others make a file visible only when it is whole
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            part = f"{path}.{time.monotonic_ns()}.part"
            system.pipe_file(part, data)
            system.mv(part, path)
        else:
            system.pipe_file(path, data)

    def _try(self, work: Callable[[Any], Any]) -> Any:
        if time.monotonic() < self._off_until:
            return None
        try:
            return work(self._open())
        except Exception as error:  # each file system behind fsspec raises its own kinds
            self._off_until = time.monotonic() + RETRY
            if not self._warned:
                self._warned = True
                self._warn(Problem("cache_remote", f"the remote cache {self.url} cannot be used: {error}",
                                   hint="the run goes on with the local cache"))  # fmt: skip
            return None
