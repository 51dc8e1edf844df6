"""What a row of a forward pass costs where several runs share the passes, as a part of what it costs in a run's own:
measured in runs, kept in SQLite.

A larger pass costs less a row where a device is not full, and more where it is. Which of the two depends on the model,
the size of the image and the device. So it is measured, each time with a pass of either kind, one right after the
other: what else the machine does slows both, and the ratio stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from sqlite3 import Connection

__all__ = ["KEPT", "TABLE", "PassCost", "costs_of", "note_cost"]

TABLE = (
    "CREATE TABLE IF NOT EXISTS pass_ratios ("
    " likeness TEXT NOT NULL, passes INT NOT NULL, at REAL NOT NULL, calculated REAL, ratios TEXT NOT NULL,"
    " PRIMARY KEY (likeness, passes)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS pass_ratios_at ON pass_ratios (at)",
)
KEPT = 8
"""The newest measurements, which alone count: a wrong choice is corrected after a few more of them."""
LONG = 86400.0
"""Seconds after which a measurement is made again: machines, drivers and neighbours change."""
MOST = 2000
"""Likenesses and sizes that are kept."""


@dataclass(frozen=True, slots=True)
class PassCost:
    """The cost of a row in passes that so many runs share, as a part of its cost in a run's own passes."""

    ratios: tuple[float, ...] = ()
    """Measured, the newest last. Infinite: the memory was too short for such passes."""
    calculated: float | None = None
    """By the sizes of the passes alone; 1: they have the same size."""
    at: float = 0.0
    """The Unix time of the newest measurement."""


def costs_of(db: Connection, likeness: str, now: float) -> dict[int, PassCost]:
    """What is known, by the number of runs that share passes.

    `now` is Unix time; what was noted more than a day ago is left out.
    """
    query = "SELECT passes, ratios, calculated, at FROM pass_ratios WHERE likeness = ? AND at > ?"
    found = db.execute(query, (likeness, now - LONG)).fetchall()
    return {passes: PassCost(tuple(json.loads(ratios)), calculated, at) for passes, ratios, calculated, at in found}


def note_cost(db: Connection, likeness: str, passes: int, cost: PassCost, now: float) -> None:
    """Take in what a run has measured."""
    known = costs_of(db, likeness, now).get(passes, PassCost(at=now))
    ratios = (known.ratios + cost.ratios)[-KEPT:]
    calculated = known.calculated if cost.calculated is None else cost.calculated
    at = now if cost.ratios else known.at
    db.execute(
        "INSERT OR REPLACE INTO pass_ratios (likeness, passes, at, calculated, ratios) VALUES (?, ?, ?, ?, ?)",
        (likeness, passes, at, calculated, json.dumps(ratios)),
    )
    db.execute(
        "DELETE FROM pass_ratios WHERE at < (SELECT at FROM pass_ratios ORDER BY at DESC LIMIT 1 OFFSET ?)", (MOST,)
    )
