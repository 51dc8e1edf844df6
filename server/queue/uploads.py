"""Files that a worker on another machine has written, put where a worker of this one would have put them.

The worker sends each with the name of its note (see `Settings.claims`), which depends on the prompt and the node alone.
So a file that an attempt before this one has handed over, or has written on this machine, is found and not written
again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["put_file"]

NUMBERED = re.compile(r"(.*)_(\d{1,9})_?(\.[^.]+)")


def put_file(content: Path, folder: Path, filename: str, claim: Path | None) -> str:
    """Give a whole file, which lies on the disk of `folder`, a name there: its own, with the next free number. Returns
    the name; of a file that its `claim` shows to be there already, that one's."""
    folder.mkdir(parents=True, exist_ok=True)
    if claim is not None:
        claim.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(content, claim)
        except FileExistsError:
            known = _name_of(claim, folder)
            if known is not None:
                return known
        content = claim
    return _named(content, folder, filename)


def _name_of(claim: Path, folder: Path) -> str | None:
    number = claim.stat().st_ino
    return next((item.name for item in os.scandir(folder) if item.inode() == number), None)


def _named(content: Path, folder: Path, filename: str) -> str:
    found = NUMBERED.fullmatch(filename)
    stem, ending = (found[1], found[3]) if found else (Path(filename).stem, Path(filename).suffix)
    pattern = re.compile(re.escape(stem) + r"_(\d+)_" + re.escape(ending))
    numbers = [int(each[1]) for name in os.listdir(folder) if (each := pattern.fullmatch(name))]
    number = max(numbers, default=0) + 1
    while True:
        name = f"{stem}_{number:05}_{ending}"
        try:
            os.link(content, folder / name)
            return name
        except FileExistsError:
            number += 1
