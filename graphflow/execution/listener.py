"""Listeners to a run. An error of a listener stops the run; no node failed of it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as Flag

from ..events import Event, ModelEvent, NodeMemory

__all__ = ["EitherFlag", "Listener"]


class EitherFlag(Flag):
    """Set by itself, or by another one."""

    def __init__(self, other: Flag | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


class Listener:
    """Calls a user's function with each event. The first error of it cancels the run; it hears nothing more."""

    def __init__(self, on_event: Callable[[Event], None] | None, cancel: Flag | None) -> None:
        self.cancel = EitherFlag(cancel)
        """Set where the caller has cancelled the run, or the listener has failed."""
        self.models: list[ModelEvent] = []
        """The events of devices and models so far."""
        self.memory: dict[str, int] = {}
        """The bytes that each node needed at its peak."""
        self._on_event = on_event
        self._error: BaseException | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, ModelEvent):
            self.models.append(event)
        elif isinstance(event, NodeMemory):
            self.memory[event.node] = max(event.peak, self.memory.get(event.node, 0))
        if self._on_event is None or self._error is not None:
            return
        try:
            self._on_event(event)
        except BaseException as error:
            self._error = error
            self.cancel.set()

    def raise_error(self) -> None:
        """Raise what the listener raised, as it is."""
        if self._error is not None:
            raise self._error
