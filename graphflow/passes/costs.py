"""What a row of a forward pass costs, by how many runs share the passes: measured in runs, kept in SQLite.

A larger pass costs less a row where a device is not full, and more where it is. Which of the two depends on the model,
the size of the image and the device. So it is measured: what runs took decides whether runs like them share passes.
"""

from __future__ import annotations

from sqlite3 import Connection

__all__ = ["TABLE", "costs_of", "note_cost"]

TABLE = (
    "CREATE TABLE IF NOT EXISTS pass_costs ("
    " likeness TEXT NOT NULL, passes INT NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL,"
    " PRIMARY KEY (likeness, passes)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS pass_costs_at ON pass_costs (at)",
)
WEIGHT = 0.3
"""Of the newest run in the average."""
LONG = 86400.0
"""Seconds after which a measurement is made again: machines, drivers and neighbours change."""
MOST = 2000
"""Likenesses and sizes that are kept."""


def costs_of(db: Connection, likeness: str, now: float) -> dict[int, float]:
    """Seconds of a row that was asked for, by the number of runs that share passes; 1: a run's own passes. Infinite
    where the memory was too short for such passes.

    `now` is Unix time; measurements of more than a day ago are left out.
    """
    query = "SELECT passes, seconds FROM pass_costs WHERE likeness = ? AND at > ?"
    return dict(db.execute(query, (likeness, now - LONG)).fetchall())


def note_cost(db: Connection, likeness: str, passes: int, seconds: float, now: float) -> None:
    """Take in what a row cost in a run."""
    known = costs_of(db, likeness, now).get(passes)
    if known is not None:
        seconds = WEIGHT * seconds + (1 - WEIGHT) * known
    db.execute("INSERT OR REPLACE INTO pass_costs VALUES (?, ?, ?, ?)", (likeness, passes, now, seconds))
    db.execute(
        "DELETE FROM pass_costs WHERE at < (SELECT at FROM pass_costs ORDER BY at DESC LIMIT 1 OFFSET ?)", (MOST,)
    )
