"""The values that mean something to the engine itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ATOMS", "Blocked", "Handle", "Items"]

ATOMS = frozenset({type(None), bool, int, float, str, bytes})
"""Plain Python that cannot change and holds nothing else."""


class Items(tuple[Any, ...]):
    """Several values on one link: what follows runs once for each. Never holds exactly one: that is the value
    itself."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value that stops the nodes that need it. With a message, that is a failure; without one, it is intended."""

    message: str | None = None


class Handle:
    """A value that names something (a model, and what is changed about it) without holding it.

    It is never stored: its node runs again instead, which costs nothing. It must be immutable: it is handed out as it
    is, never copied.
    """

    __slots__ = ()

    def identity(self) -> Any:
        """Plain Python that is equal for handles on the same thing, on every machine."""
        raise NotImplementedError
