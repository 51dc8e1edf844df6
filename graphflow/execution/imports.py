"""The time that importing takes: a library is imported when the first node needs it, and that is not the node's work.

While a run goes on, a finder in front of the others lets them find a module, and notes when its code begins and ends to
run. Python imports a module once in a process, and whoever needs it meanwhile waits, so the clock is that of the
process: seconds in which at least one module was being imported, by whichever thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from threading import Lock
from types import ModuleType

__all__ = ["ImportClock"]

_PATH = Lock()
"""Held while `sys.meta_path` is replaced. It is never changed in place: another thread may be going through it."""
_OWN_LOADERS = (SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader)
"""The loaders that belong to one module each; others are shared, and what they load is quickly loaded."""


def _lead_on(module: ModuleType) -> None:
    """A package may put another object in its own place while it is imported, as transformers and diffusers do. A
    thread that began to wait for it before that gets the first object, which lacks most names: it finds them in the
    second."""
    now = sys.modules.get(module.__name__)
    if now is not None and now is not module:
        vars(module).setdefault("__getattr__", partial(getattr, now))


class ImportClock:
    """Runs while it is used as a context manager."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way = 0
        """Modules whose code is running: a module imports others."""
        self._began = 0.0
        self._spans: list[tuple[float, float]] = []
        self._sum = 0.0

    @property
    def seconds(self) -> float:
        """Seconds in which modules were imported so far."""
        with self._lock:
            return self._sum + (time.perf_counter() - self._began if self._under_way else 0.0)

    @property
    def so_far(self) -> float | None:
        """The seconds of importing so far, while a module is being imported; else None."""
        return self.seconds if self._under_way else None

    def within(self, began: float, ended: float) -> float:
        """The seconds of importing between two readings of `time.perf_counter`."""
        with self._lock:
            spans = [*self._spans, (self._began, ended)] if self._under_way else list(self._spans)
        found = 0.0
        for first, last in reversed(spans):
            if last <= began:
                break
            found += max(0.0, min(last, ended) - max(first, began))
        return found

    def __enter__(self) -> ImportClock:
        with _PATH:
            sys.meta_path = [self, *sys.meta_path]
        return self

    def __exit__(self, *_: object) -> None:
        with _PATH:
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the finders behind this one find, with a loader that is timed."""
        finders = sys.meta_path
        if self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if type(spec.loader) in _OWN_LOADERS:
                    spec.loader.exec_module = self._timed(spec.loader.exec_module)  # type: ignore[union-attr, method-assign]
                return spec
        return None

    def _timed(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def timed(module: ModuleType) -> None:
            self._begin()
            try:
                execute(module)
                _lead_on(module)
            finally:
                self._end()

        return timed

    def _begin(self) -> None:
        with self._lock:
            if self._under_way == 0:
                self._began = time.perf_counter()
            self._under_way += 1

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._under_way == 0:
                ended = time.perf_counter()
                self._spans.append((self._began, ended))
                self._sum += ended - self._began
