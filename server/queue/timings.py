"""How long nodes and whole runs took, kept for each model, size and number of steps; and how long the next may take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from sqlite3 import Connection
from statistics import median
from typing import Any

from .store import QueueTransaction

__all__ = ["expected", "record"]

KEPT = 15
"""Runs that count: a machine changes."""
LONGEST_NAME = 200


def record(tx: QueueTransaction, setting: str, program: str, stats: dict[str, Any]) -> None:
    """Keep the seconds of a run that went through: of the whole, under its program, and of one call of each node type.

    `stats` is what the worker reports at the end of a run: `{seconds, nodes: {type: {calls, seconds}}}`.
    """
    found = {program: float(stats["seconds"])}
    found |= {kind: of["seconds"] / of["calls"] for kind, of in stats.get("nodes", {}).items() if of["calls"]}
    for name, seconds in found.items():
        key = (name[:LONGEST_NAME], setting[:LONGEST_NAME])
        tx.db.execute("INSERT INTO timings VALUES (?, ?, ?, ?)", (*key, time.time(), seconds))
        tx.db.execute(
            "DELETE FROM timings WHERE rowid IN (SELECT rowid FROM timings WHERE name = ? AND setting = ?"
            " ORDER BY at DESC LIMIT -1 OFFSET ?)",
            (*key, KEPT),
        )


def expected(db: Connection, setting: str, names: Iterable[str]) -> dict[str, float]:
    """The median of the seconds of each of these node types and programs in this setting; one that has never run in it
    is left out."""
    found = {}
    for name in dict.fromkeys(names):
        rows = db.execute(
            "SELECT seconds FROM timings WHERE name = ? AND setting = ?", (name[:LONGEST_NAME], setting[:LONGEST_NAME])
        ).fetchall()
        if rows:
            found[name] = median(row[0] for row in rows)
    return found
