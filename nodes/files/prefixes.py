"""The file that a `filename_prefix` stands for: one, without its number, that a server finds again and every system can
hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem, Settings
from graphflow.spi import mended

__all__ = ["check_prefix", "inside", "target_of"]

LONGEST = 200
"""Bytes of each part of a prefix: the number and the ending come behind it."""
DEEPEST = 16
"""Parts of a prefix."""
_UNITS = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")


def target_of(folder: Path, prefix: str, width: int = 0, height: int = 0) -> Path:
    """The path that a prefix names in a folder; raises a Problem where it lies outside or is too long.

    It may name a sub-folder and hold `%year% %month% %day% %hour% %minute% %second% %width% %height%` and
    `%date:yyyy-MM-dd hh_mm_ss%`; `%date:yyyy/MM/dd%` names sub-folders. What no file name can hold on some system
    becomes `_`.
    """
    text = _fill_in(prefix, width, height).replace("\\", "/").encode("utf-8", "replace").decode()
    root = folder.resolve()
    target = _inside(root, text, "filename_prefix")
    named = target.relative_to(root).parts
    parts = tuple(mended(part) for part in named)
    size = max(len(part.encode()) for part in parts)
    if size > LONGEST or len(parts) > DEEPEST:
        shown = repr(prefix if len(prefix) <= 40 else prefix[:40] + "...")
        found = f"a name of {size} bytes" if size > LONGEST else f"{len(parts)} folders in each other"
        raise GraphFlowError(
            [
                Problem(
                    "name_too_long",
                    f"{shown} gives {found}",
                    input="filename_prefix",
                    hint=f"at most {LONGEST} bytes and {DEEPEST} folders are taken",
                )
            ]
        )
    return target if parts == named else _inside(root, "/".join(parts), "filename_prefix")


def check_prefix(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """For the `check` of nodes that save: what is wrong with the prefix is told before anything is computed."""
    try:
        if "filename_prefix" in literals:
            target_of(settings.output_dir, literals["filename_prefix"])
    except GraphFlowError as error:
        for problem in error.problems:
            yield "filename_prefix", f"{problem.message}; {problem.hint}"


def inside(folder: Path, name: str, input: str | None = None) -> Path:
    """The path of a name in a folder, resolved; raises a Problem with that input if it would lie anywhere else."""
    return _inside(folder.resolve(), name, input)


def _inside(root: Path, name: str, input: str | None) -> Path:
    target = (root / name.replace("\0", "")).resolve()
    if target == root or not target.is_relative_to(root):
        raise GraphFlowError(
            [
                Problem(
                    "outside_folder",
                    f"{name[:200]!r} leads out of its folder, or names no file in it",
                    input=input,
                    hint="use a plain name, or one with a sub-folder of that folder",
                )
            ]
        )
    return target


def _fill_in(prefix: str, width: int, height: int) -> str:
    now = datetime.now()
    units = {
        "yyyy": f"{now.year}",
        "yy": f"{now.year % 100:02}",
        "MM": f"{now.month:02}",
        "M": f"{now.month}",
        "dd": f"{now.day:02}",
        "d": f"{now.day}",
        "hh": f"{now.hour:02}",
        "h": f"{now.hour}",
        "mm": f"{now.minute:02}",
        "m": f"{now.minute}",
        "ss": f"{now.second:02}",
        "s": f"{now.second}",
    }
    values = {
        "width": str(width),
        "height": str(height),
        "year": units["yyyy"],
        "month": units["MM"],
        "day": units["dd"],
        "hour": units["hh"],
        "minute": units["mm"],
        "second": units["ss"],
    }
    dated = re.sub(r"%date:([^%]*)%", lambda found: _UNITS.sub(lambda unit: units[unit[0]], found[1]), prefix)
    return re.sub(r"%(\w+)%", lambda found: values.get(found[1], found[0]), dated)
