"""How a command ends: its exit code, and the problems that it prints. Imports no engine."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..problem import Problem

__all__ = ["DONE", "FAILED", "WRONG", "complain"]

DONE, FAILED, WRONG = 0, 1, 2


def complain(problems: Iterable[Problem], what: str = "error") -> None:
    for problem in problems:
        print(f"{what}: {problem}", file=sys.stderr)
