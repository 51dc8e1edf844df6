"""Checks of whole graphs that packages bring: a pack of nodes knows what its nodes give to each other, the engine does
not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from ..problem import Problem
from ..settings import Settings

__all__ = ["TOO_LARGE", "RunCost", "GraphCheck", "check_graphs", "costs_of"]

GraphCheck = Callable[[Mapping[str, Any], Settings], tuple[list[Problem], list[Problem]]]
"""(bound nodes in topological order, settings) -> (problems, warnings)."""
CHECKS, COSTS = "graphflow.checks", "graphflow.costs"
"""Entry points."""
TOO_LARGE = "too_large"
"""The code of `RunCost.problems`: a node needs more than there is."""


def check_graphs(good: Mapping[str, Any], settings: Settings) -> tuple[list[Problem], list[Problem]]:
    """The problems and the warnings that the packages' checks find.

    `good` are the nodes that can run as far as is known (`validate.Bound`, in topological order): nodes that have a
    problem, and those that stand on them, are judged by nobody, as what they give is not known.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for check in _checks() if good else ():
        found, odd = check(good, settings)
        problems.extend(found)
        warnings.extend(odd)
    return problems, warnings


class RunCost(Protocol):
    """What a run will need, as a package estimates it for its nodes."""

    problems: tuple[Problem, ...]
    """Of what cannot fit, with the code `TOO_LARGE`."""
    pass_costs: Mapping[int, float] | None
    """The calculated cost of a row in forward passes that so many runs share, as a part of that in a run's own; of
    several samplers, the one that gains least. None where no node asks a model of this package."""

    def to_json(self) -> dict[str, Any]: ...

    def lines(self) -> list[str]:
        """For people."""


def costs_of(good: Mapping[str, Any], settings: Settings) -> list[RunCost]:
    """The cost of these nodes, one entry for each package that estimates it."""
    return [estimate(good, settings) for estimate in _estimates()]


@cache
def _checks() -> tuple[GraphCheck, ...]:
    return tuple(point.load() for point in entry_points(group=CHECKS))


@cache
def _estimates() -> tuple[Callable[[Mapping[str, Any], Settings], RunCost], ...]:
    return tuple(point.load() for point in entry_points(group=COSTS))
