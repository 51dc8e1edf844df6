"""A numbered folder in the output folder, whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from graphflow import Context

from .not_written import writing
from .prefixes import target_of

__all__ = ["save_folder"]


def save_folder(write: Callable[[Path], None], context: Context, folder: Path, prefix: str) -> list[dict[str, str]]:
    """Write `PREFIX_00001` with the next free number; what ComfyUI calls it in `ui`. `write` fills an empty folder.

    A run that is named and made again after a crash writes into the next number again: what was written is whole.
    """
    numbering = context.numbering
    if numbering is not None:
        prefix = numbering.filled(prefix, context.display or context.node_id)
    target = target_of(folder, prefix)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=target.parent, prefix=".", suffix=".tmp"))
    try:
        context.check_cancelled()
        with writing(target):
            write(new)
            new.chmod(0o755)
            path = _numbered(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    relative = path.parent.relative_to(folder.resolve())
    subfolder = "" if str(relative) == "." else relative.as_posix()
    return [{"filename": path.name, "subfolder": subfolder, "type": "output", "path": str(path)}]


def _numbered(new: Path, target: Path) -> Path:
    """A folder can be renamed only where nothing or an empty folder is, so no two runs get one name."""
    taken = re.compile(re.escape(target.name) + r"_(\d+)")
    numbers = [int(found[1]) for name in os.listdir(target.parent) if (found := taken.fullmatch(name))]
    number = max(numbers, default=0) + 1
    while True:
        path = target.with_name(f"{target.name}_{number:05}")
        try:
            os.rename(new, path)
            return path
        except OSError:
            if not path.exists():
                raise
            number += 1
