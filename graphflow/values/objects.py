"""Objects that no codec knows, such as those of foreign packs: how they are copied and counted in memory.

They are never stored. A copy is a deep one in which leaves that a codec knows (tensors) are shared by copy on write, so
that it costs structure, not weights.
"""

from __future__ import annotations

import copy
import gc
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["copied", "parts", "shallow_bytes"]

_NOT_PART = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.FrameType)
_MANY = 200_000
"""Parts after which counting stops: an object that reaches more hangs on half the process."""


def parts(value: object, is_leaf: Callable[[object], bool]) -> Iterator[object]:
    """The value and everything it is made of, each once; what is behind a leaf is not looked at."""
    seen = {id(value)}
    stack = [value]
    while stack and len(seen) < _MANY:
        part = stack.pop()
        yield part
        if not is_leaf(part):
            for inner in gc.get_referents(part):
                if id(inner) not in seen and not isinstance(inner, _NOT_PART):
                    seen.add(id(inner))
                    stack.append(inner)


def copied(value: object, is_leaf: Callable[[object], bool], share: Callable[[Any], Any]) -> Any:
    """A deep copy, its leaves shared. Raises whatever the object raises when it cannot be copied (locks, open
    files)."""
    memo: dict[int, Any] = {}
    keep = []
    for part in parts(value, is_leaf):
        if is_leaf(part):
            memo[id(part)] = share(part)
            keep.append(part)
    return copy.deepcopy(value, memo)


def shallow_bytes(part: object) -> int:
    """The bytes of the part itself; a buffer outside of Python's memory is known by `nbytes`."""
    try:
        nbytes = getattr(part, "nbytes", None)
    except Exception:  # some objects compute it, and cannot always: a sparse tensor
        nbytes = None
    return max(sys.getsizeof(part), nbytes if type(nbytes) is int else 0)
