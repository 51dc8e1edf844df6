"""Whether a value is what its wire type promises: asked in one place, when the value leaves its node.

The engine knows numbers and texts. Who owns another wire type registers its check: an entry point of the group
`graphflow.wires` names a module whose `CHECKS` maps wire types to functions, and whose `FROM_PYTHON` makes their values
of what a script has. So the engine stays free of torch.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

__all__ = ["Check", "Misfit", "check_of", "from_python", "in_words"]


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value that is not what its wire carries; all three are for people."""

    found: str
    expected: str
    hint: str | None = None


Check = Callable[[Any], Misfit | None]
"""None for a value that fits. It never raises, never writes, and takes microseconds besides one look at the numbers."""


def check_of(wire: str, typed: bool) -> Check | None:
    """The check of a wire type; None for a type that anything may travel on.

    `typed`: the node declares its outputs in Python's types. Node classes of others put lists and numpy's values on the
    wires of numbers and texts, and their own nodes rely on it.
    """
    if wire in _PLAIN:
        return _PLAIN[wire] if typed else None
    return _registered().get(wire)


def from_python(wire: str, value: Any) -> Any:
    """A value of a script as the wire carries it: an image of Pillow as an IMAGE. Raises TypeError, ValueError.

    Who owns the wire registers the function: `FROM_PYTHON` of the same module.
    """
    for point in entry_points(group="graphflow.wires"):
        convert = getattr(point.load(), "FROM_PYTHON", {}).get(wire)
        if convert is not None:
            return convert(value)
    return value


@cache
def _registered() -> dict[str, Check]:
    found: dict[str, Check] = {}
    for point in entry_points(group="graphflow.wires"):
        found.update(point.load().CHECKS)
    return found


def in_words(value: object) -> str:
    """A few words for a value that does not fit: its type, and the value itself where it is short."""
    if value is None:
        return "nothing (None)"
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, (str, int, float)):
        text = repr(value[:40] if isinstance(value, str) else value)
        return f"{name} {text[:60]}"
    if isinstance(value, (list, tuple, dict)):
        return f"{name} of {len(value)}"
    return name


def _integer(value: Any) -> Misfit | None:
    if type(value) is int or isinstance(value, numbers.Integral):
        return None
    return Misfit(in_words(value), "a whole number (int)")


def _float(value: Any) -> Misfit | None:
    if type(value) is float or isinstance(value, numbers.Real):
        return None
    return Misfit(in_words(value), "a number (float)")


def _text(value: Any) -> Misfit | None:
    return None if isinstance(value, str) else Misfit(in_words(value), "a text (str)")


def _boolean(value: Any) -> Misfit | None:
    if type(value) is bool or isinstance(value, numbers.Integral) or type(value).__name__ in ("bool_", "bool"):
        return None
    return Misfit(in_words(value), "true or false (bool)")


_PLAIN: dict[str, Check] = {"INT": _integer, "FLOAT": _float, "STRING": _text, "BOOLEAN": _boolean}
