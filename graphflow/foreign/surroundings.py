"""A foreign node's fingerprint besides inputs, device, libraries and folders; and the files that it leaves behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..settings import Settings
from . import standins
from .pack_source import PackSource

__all__ = ["environment_of", "files_shown"]

_TELL_FOLDERS = frozenset({"folder_paths", "nodes", "comfy_api"})
"""Modules that give a pack the folders of the run, or write into them."""


def environment_of(source: PackSource) -> Callable[[Settings], str]:
    """Everything that changes the results of a pack's nodes: see `NodeType.environment`."""

    def environment(settings: Settings) -> str:
        loaded = source.loaded()
        read = source.read_variables()
        parts = [standins.environment(settings), source.libraries, *filter(None, (loaded, read))]
        parts += ["shared passes"] if settings.together > 1 else []
        parts += [] if settings.metadata else ["without the workflow"]
        if source.imported & _TELL_FOLDERS:
            folders = (settings.output_dir, settings.temp_dir, settings.input_dir, *settings.models)
            parts += [str(folder.resolve()) for folder in folders]
        return "; ".join(parts)

    return environment


def files_shown(settings: Settings, ui: dict[str, Any] | None) -> str:
    """Size, time and inode of all files that an output node has shown; one that is not there counts as such."""
    return ";".join(map(_state, _paths(settings, ui or {})))


def _paths(settings: Settings, ui: Mapping[str, Any]) -> Iterator[Path]:
    """`{"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}`"""
    folders = {"output": settings.output_dir, "temp": settings.temp_dir, "input": settings.input_dir}
    for items in ui.values():
        for item in items if isinstance(items, (list, tuple)) else ():
            if isinstance(item, Mapping) and isinstance(item.get("filename"), str):
                root = folders.get(str(item.get("type")), settings.output_dir)
                yield root / str(item.get("subfolder") or "") / item["filename"]


def _state(path: Path) -> str:
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return "absent"
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ino}"
