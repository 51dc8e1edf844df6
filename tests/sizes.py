"""The size of a value, for tests."""

from typing import Any

from graphflow.values import measure


def size_of(value: Any) -> int:
    """Bytes held by a value; memory that is in it twice counts once."""
    structure, memories = measure(value)
    return structure + sum(memories.values())
