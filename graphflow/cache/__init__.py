"""Unchanged outputs come from here."""

from .memory import Entry, MemoryCache

__all__ = ["Entry", "MemoryCache"]
