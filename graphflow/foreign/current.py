"""The run that the helper functions of foreign packs are part of: they take no Context, so it goes with the thread or
task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from ..nodetype.context import Context
from ..settings import Settings

__all__ = ["PackCaller", "Current", "current", "current_settings", "during", "inner_context", "with_settings"]


@dataclass(frozen=True, slots=True)
class PackCaller:
    """The foreign node that is called."""

    node: str
    """The name of its type."""
    pack: str
    path: Path
    """The pack's file or folder."""
    identity: Callable[[], str] = token_hex
    """Equal for two calls that do the same: the pack, what it computes with, and the arguments. By default like no
    other."""


@dataclass(slots=True)
class Current:
    """The node call that is being made."""

    context: Context
    caller: PackCaller | None = None
    patched: int = 0
    """How many handles it has changed."""
    graphs: int = 0
    """How many expansions it has begun to build."""
    calls: int = 0
    """How many node functions it has called, savers of images among them."""


_CURRENT: ContextVar[Current | None] = ContextVar("graphflow_foreign_call", default=None)
_SETTINGS: ContextVar[Settings | None] = ContextVar("graphflow_foreign_settings", default=None)


def current() -> Current | None:
    """The node call that asks, or None outside of one."""
    return _CURRENT.get()


def inner_context(what: str) -> Context:
    """The context for a node function that the running node calls; raises RuntimeError where no node runs."""
    found = _CURRENT.get()
    if found is None:
        raise RuntimeError(f"{what} can be called only while a node runs")
    found.calls += 1
    return found.context.within(found.calls)


def current_settings() -> Settings:
    """The folders of the run that asks; outside of one, the defaults."""
    found = _CURRENT.get()
    return found.context.settings if found is not None else _SETTINGS.get() or Settings()


@contextmanager
def during(context: Context, caller: PackCaller | None = None) -> Iterator[None]:
    token = _CURRENT.set(Current(context, caller))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def with_settings(settings: Settings) -> Iterator[None]:
    token = _SETTINGS.set(settings)
    try:
        yield
    finally:
        _SETTINGS.reset(token)
