"""The numbers of files that many variants of a workflow write: by variant, whichever of them is done first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

__all__ = ["Numbering"]


class Numbering:
    """Each node that saves has a range of numbers, and in it each variant its place. Thread-safe."""

    def __init__(
        self,
        variant: Callable[[str], int],
        node: Callable[[str], str],
        variants: int,
        columns: Callable[[int], Mapping[str, str]],
    ) -> None:
        """`variant(id)` and `node(id)`: the variant that a node of the run belongs to, and its id in the workflow.
        `columns(variant)`: the values of a variant, in words, under their short names."""
        self._variant, self._node, self._variants, self._columns = variant, node, variants, columns
        self._first: dict[tuple[str, Path, str], tuple[int, int]] = {}
        """Node, prefix and ending -> (first number of the range, files of a variant)."""
        self._end: dict[tuple[Path, str], int] = {}
        """Prefix and ending -> the number after all ranges."""
        self._lock = Lock()

    def filled(self, prefix: str, node_id: str) -> str:
        """The prefix with `%variant%`, and `%seed%` or whatever varies, as this variant has it."""
        if "%" not in prefix:
            return prefix
        variant = self._variant(node_id)
        for name, text in {"variant": str(variant), **self._columns(variant)}.items():
            prefix = prefix.replace(f"%{name}%", re.sub(r"[^\w. =+-]", "_", text)[:80])
        return prefix

    def number(self, node_id: str, target: Path, ending: str, free: int, count: int) -> int:
        """The number of the first of `count` files; `free` is the first one that no file has. The range is made for the
        count of the variant that comes first; where another has more files, some of its numbers may be taken."""
        key = self._node(node_id), target, ending
        with self._lock:
            if key not in self._first:
                start = max(free, self._end.get((target, ending), 0))
                self._first[key] = start, max(1, count)
                self._end[target, ending] = start + self._variants * max(1, count)
            first, size = self._first[key]
        return first + self._variant(node_id) * size
