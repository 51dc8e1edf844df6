"""States of long nodes: the same recipe, started again, goes on from the last one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..values import Unstorable, decode, encode
from .folder import Folder
from .remote import RemoteTier

__all__ = ["Checkpoint"]

MOST = 0.02
"""Of the time of a run that may go into storing states. With `every` 0 each state is stored, whatever it takes."""


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
        """`every`: seconds between two stored states, and more where a state is so large that storing it would take
        more than a share of `MOST` of the time. A `fresh` one starts from nothing, whatever is there."""
        self.name = name
        self._folder, self._every, self._fresh, self._shared = folder, every, fresh, shared
        self._last, self._pause = time.monotonic(), every

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
        began = time.monotonic()
        if at_once or began - self._last >= self._pause:
            self._store(make())
            self._last = time.monotonic()
            self._pause = max(self._every, (self._last - began) / MOST) if self._every else 0.0

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
            path = folder.checkpoints.path(self.name)
            folder.trouble(
                "cache_state_full",
                f"the state of a node is not kept: {error.strerror or error} ({path})",
                "make room: the run goes on, and tries again after a minute; what was kept before is still there",
            )

    def drop(self) -> None:
        self._folder.checkpoints.remove(self.name)
        if self._shared is not None:
            self._shared.drop_state(self.name)
