"""Checks of whole graphs that packages bring: a pack of nodes knows what its nodes give to each other, the engine does
not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ..problem import Problem
from ..settings import Settings

if TYPE_CHECKING:
    from .validate import Bound

__all__ = ["GraphCheck", "check_graphs"]

GraphCheck = Callable[[Mapping[str, "Bound"], Settings], tuple[list[Problem], list[Problem]]]
"""(bound nodes in topological order, settings) -> (problems, warnings)."""
GROUP = "graphflow.checks"


def check_graphs(order: Mapping[str, Bound], settings: Settings, problems: list[Problem]) -> list[Problem]:
    """Append what the packages' checks find to `problems`, and give their warnings.

    Nodes that have a problem, and those that stand on them, are judged by nobody: what they give is not known.
    """
    from .validate import runnable

    good = runnable(order, problems) if problems else order
    warnings: list[Problem] = []
    for check in _checks() if good else ():
        found, odd = check(good, settings)
        problems.extend(found)
        warnings.extend(odd)
    return warnings


@cache
def _checks() -> tuple[GraphCheck, ...]:
    return tuple(point.load() for point in entry_points(group=GROUP))
