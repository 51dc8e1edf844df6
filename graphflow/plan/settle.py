"""What the settings leave open is settled for each run before it is planned, by the packages whose nodes it concerns:
so a recipe names the form that is used, and a run has one form throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points

from ..check.validate import Bound
from ..settings import Settings
from .fingerprint import Fingerprint, fingerprints

__all__ = ["Settle", "planned"]

Settle = Callable[[Mapping[str, Bound], Callable[[str], bytes], Settings], Settings]
"""(bound nodes in topological order, node id -> recipe under these settings, settings) -> settings; the same object
where nothing is open."""
SETTLE = "graphflow.settle"
"""Entry points."""


def planned(order: Mapping[str, Bound], settings: Settings) -> tuple[Settings, dict[str, Fingerprint]]:
    """The settings of a run of these nodes, and their fingerprints under them.

    Raises OSError where a file cannot be read.
    """
    prints = fingerprints(order, settings)
    settled = settings
    for settle in _settling() if order else ():
        settled = settle(order, lambda node_id: prints[node_id].recipe, settled)
    if settled is settings or settled == settings:  # `alike` and others that change no result do not compare
        return settled, prints
    return settled, fingerprints(order, settled)


@cache
def _settling() -> tuple[Settle, ...]:
    return tuple(point.load() for point in entry_points(group=SETTLE))
