"""JSON that cannot be written into, at any depth: several workflows hold the same nodes.

A frozen list is a list and a frozen dict is a dict: they are equal to plain ones, and json writes them as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["FROZEN", "FrozenDict", "FrozenList", "frozen", "thawed"]


def frozen(value: Any) -> Any:
    """The value; for a dict or a list a frozen copy, and so for all in it. No recursion: JSON may be nested deeply."""
    kind = type(value)
    if kind is list and _PLAIN.keys().isdisjoint(map(type, value)):  # of nearly every list: it is a link
        return FrozenList(value)
    if kind not in _PLAIN:
        return value
    whole = _PLAIN[kind](value)
    ahead = [whole]
    while ahead:
        part = ahead.pop()
        put: Callable[..., None] = dict.__setitem__ if isinstance(part, dict) else list.__setitem__
        for key, item in part.items() if isinstance(part, dict) else enumerate(part):
            kind = type(item)
            if kind in _PLAIN:
                held = _PLAIN[kind](item)
                put(part, key, held)
                ahead.append(held)
    return whole


def thawed(value: Any) -> Any:
    """The value with new plain dicts and lists in place of its own, at every depth: they may be written into."""
    whole = _plain(value)
    ahead = [whole] if whole is not value else []
    while ahead:
        part = ahead.pop()
        for key, item in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(item, (dict, list)):
                part[key] = _plain(item)
                ahead.append(part[key])
    return whole


def _refuse(*_: Any, **__: Any) -> Any:
    raise TypeError("the inputs of a node do not change; workflow.set('node.input', value) makes a changed workflow")


class FrozenDict(dict[str, Any]):
    """A dict that cannot be written into. A copy of it by `copy` or `pickle` is a plain dict, which can."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be written into. A copy of it by `copy` or `pickle` is a plain list, which can."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


FROZEN = frozenset({FrozenDict, FrozenList})
_PLAIN: dict[type, type[FrozenDict] | type[FrozenList]] = {dict: FrozenDict, list: FrozenList}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else value
