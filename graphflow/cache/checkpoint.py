"""States of long nodes: the same recipe, started again, goes on from the last one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..values import Unstorable, decode, encode
from .folder import Folder
from .remote import RemoteTier

__all__ = ["Checkpoint"]


class Checkpoint:
    """Where one call of a node keeps its state: in a cache folder, and in the level that machines share, if there is
    one, so that another machine can go on."""

    def __init__(
        self,
        folder: Folder,
        name: bytes,
        every: float = 0.0,
        fresh: bool = False,
        shared: RemoteTier | None = None,
    ) -> None:
        """`every`: seconds between two stored states. A `fresh` one starts from nothing, whatever is there."""
        self.name = name
        self._folder, self._every, self._fresh, self._shared = folder, every, fresh, shared
        self._last = time.monotonic()

    def load(self) -> Any:
        """The last state; None where there is none that can be read."""
        if self._fresh:
            return None
        try:
            data = self._folder.checkpoints.read(self.name)
            if data is None and self._shared is not None:
                data = self._shared.state(self.name)
            return decode(data) if data is not None else None
        except Exception:  # damaged, or of a codec that is not here: the node starts at the beginning
            self.drop()
            return None

    def save(self, make: Callable[[], Any], at_once: bool = False) -> None:
        """Store `make()` if it is time, or at once."""
        if at_once or time.monotonic() - self._last >= self._every:
            self._store(make())
            self._last = time.monotonic()

    def _store(self, state: object) -> None:
        folder = self._folder
        if not folder.can_keep:
            return
        try:
            data = encode(state).data
            if data is not None:
                folder.checkpoints.write(self.name, data)
                if self._shared is not None:
                    self._shared.keep_state(self.name, data)
        except Unstorable as error:
            folder.warn("cache_state", f"the state of a node cannot be kept: {error}")
        except OSError as error:
            folder.trouble("cache_full", f"results are not kept any more: {error.strerror or error} ({folder.path})")

    def drop(self) -> None:
        self._folder.checkpoints.remove(self.name)
        if self._shared is not None:
            self._shared.drop_state(self.name)
