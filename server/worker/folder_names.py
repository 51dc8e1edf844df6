"""Texts of errors for clients: what a file is called here, but not where on this machine it lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .config import WorkerConfig

__all__ = ["FolderNames"]

END = r"(?![\w.-])"
ABSOLUTE = re.compile(r"(?<![\w.~:/-])(/[^/\s'\"<>|:;,]+)(?:/[^/\s'\"<>|:;,]+)*/")
"""The folder of an absolute path, and the first part of it: `/usr/lib/` of `/usr/lib/x.so`. Not what stands in a
URL."""


class FolderNames:
    """The folders of a worker, by the names under which clients know them."""

    def __init__(self, config: WorkerConfig) -> None:
        self.hides_traces = not config.debug
        self._names = dict(_names(config))
        longest_first = sorted(self._names, key=len, reverse=True)
        self._known = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" + END)

    def without(self, text: str) -> str:
        """The text with `output/a.png` for `/home/me/studio/output/a.png`, and `x.so` for what lies in other
        folders."""
        return ABSOLUTE.sub(_or_nothing, self._known.sub(lambda found: self._names[found[1]], text))


def _names(config: WorkerConfig) -> Iterator[tuple[str, str]]:
    """Each folder as it is written and as the system resolves it. What comes later wins."""
    named = [
        *((folder, "models") for folder in config.settings().models),
        *((folder, folder.name) for folder in config.nodes),
        (config.input_dir, "input"),
        (config.output_dir, "output"),
        (config.temp_dir, "temp"),
    ]
    if config.cache_dir is not None:
        named.insert(0, (config.cache_dir, "cache"))
    for folder, name in named:
        for path in (os.path.abspath(folder), os.path.realpath(folder)):
            if path != "/":
                yield path, name


def _or_nothing(found: re.Match[str]) -> str:
    return "" if os.path.exists(found[1]) else found[0]
