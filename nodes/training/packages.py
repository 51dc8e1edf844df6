"""Optimisers of packages that are not installed with this one. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from graphflow import Problem, Settings

from .options import OPTIMISER_PACKAGES

__all__ = ["check_optimizer", "missing_package"]


def missing_package(optimizer: str) -> Problem | None:
    """What to install, where the package of an optimiser is not there."""
    package = OPTIMISER_PACKAGES.get(optimizer)
    if package is None or find_spec(package) is not None:
        return None
    message = f"{optimizer} is in the package {package}, which is not installed"
    return Problem("missing_package", message, input="optimizer", hint=f"pip install {package}; or set it to AdamW")


def check_optimizer(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """A check of a node with an input `optimizer`, before the run."""
    name = literals.get("optimizer")
    if isinstance(name, str) and (problem := missing_package(name)) is not None:
        yield "optimizer", f"{problem.message} ({problem.hint})"
