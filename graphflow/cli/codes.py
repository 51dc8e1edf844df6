"""How a command ends: its exit code, and the problems that it prints. Imports no engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from ..problem import Problem

__all__ = ["CANCELLED", "DONE", "FAILED", "WRONG", "complain"]

DONE, FAILED, WRONG, CANCELLED = 0, 1, 2, 130
"""130 is what shells know as ended by Ctrl-C."""


def complain(problems: Iterable[Problem], what: str = "error") -> None:
    """Print problems as people read them; on a terminal the first word is coloured."""
    is_coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    colour = "33" if what == "warning" else "31"
    word = f"\x1b[1;{colour}m{what}:\x1b[0m" if is_coloured else f"{what}:"
    for problem in problems:
        print(f"{word} {problem}", file=sys.stderr)
