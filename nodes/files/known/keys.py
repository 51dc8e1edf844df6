"""The names and shapes of some tensors, and questions about them: what the tables of this folder are written in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..tensor_info import TensorInfo

__all__ = ["Keys", "Rule", "first"]


class Keys:
    """Tensors by name, without the prefix that they have in their file."""

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        self.tensors = tensors

    def under(self, prefix: str) -> Keys:
        if not prefix:
            return self
        length = len(prefix)
        return Keys({name[length:]: info for name, info in self.tensors.items() if name.startswith(prefix)})

    def has(self, *names: str) -> bool:
        return all(name in self.tensors for name in names)

    def starts(self, *prefixes: str) -> bool:
        """Whether any name begins with one of these."""
        return any(name.startswith(prefixes) for name in self.tensors)

    def ends(self, *endings: str) -> bool:
        return any(name.endswith(endings) for name in self.tensors)

    def contains(self, pattern: str) -> bool:
        """Whether a regular expression is found in any name."""
        return re.search(pattern, self._joined) is not None

    @cached_property
    def _joined(self) -> str:
        return "\n".join(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without the packing of two 4-bit numbers in a byte; () where there is no such tensor."""
        info = self.tensors.get(name)
        if info is None:
            return ()
        layer = name.removesuffix(".weight")
        packed = (info.dtype == "U8" and f"{layer}.weight_scale" in self.tensors) or (
            info.dtype == "I8" and f"{layer}.weight_s_rel" in self.tensors
        )
        return (*info.shape[:-1], info.shape[-1] * 2) if packed and info.shape else info.shape

    def rows(self, name: str) -> int:
        """Output features or channels of a weight; 0 where there is none."""
        return (*self.shape(name), 0)[0]

    def columns(self, name: str) -> int:
        """Input features or channels of a weight; 0 where there is none."""
        return (*self.shape(name), 0, 0)[1]

    def ending(self, ending: str) -> str:
        """The first name with this ending; "" where there is none."""
        return next((name for name in self.tensors if name.endswith(ending)), "")

    def count(self, before: str) -> int:
        """How many blocks there are of names `before` + number + ".": one more than the largest number."""
        numbers = re.findall(rf"^{re.escape(before)}(\d{{1,6}})\.", self._joined, re.MULTILINE)
        return max(map(int, numbers), default=-1) + 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a decision table: the first whose `keys` are all there, and whose `test` holds, is the answer."""

    name: str
    """Of the family, or of the kind of file."""
    keys: tuple[str, ...] = ()
    """Names that must be there; `*` at the end stands for any ending."""
    test: Callable[[Keys], bool] = lambda keys: True
    variant: Callable[[Keys], str] = lambda keys: ""
    """The usual name of this model of the family; may be empty."""

    def matches(self, keys: Keys) -> bool:
        return all(keys.starts(key[:-1]) if key[-1] == "*" else keys.has(key) for key in self.keys) and self.test(keys)


def first(table: tuple[Rule, ...], keys: Keys) -> Rule | None:
    """The row of a table that is the answer; None where there is none."""
    return next((row for row in table if row.matches(keys)), None)
