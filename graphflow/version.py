"""The version that is installed. The package is `graphflow`, its distribution has another name: that one was taken."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTION", "installed_version"]

DISTRIBUTION = "graphflow-engine"
"""The name by which pip knows it."""


@cache
def installed_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
