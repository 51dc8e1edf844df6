"""What a row of a forward pass costs, by how many prompts share the passes: measured in runs, kept in the file.

A larger pass costs less a row where a device is not full, and more where it is. Which of the two depends on the model,
the size of the image and the device. So it is measured: what prompts took decides whether their like share passes.
"""

from __future__ import annotations

import time
from sqlite3 import Connection
from typing import Any

from .store import QueueTransaction

__all__ = ["costs_of", "note_passes"]

WEIGHT = 0.3
"""Of the newest run in the average."""
LONG = 86400.0
"""Seconds after which a measurement is made again: machines, drivers and neighbours change."""
MOST = 2000
"""Likenesses and sizes that are kept."""


def costs_of(db: Connection, likeness: str) -> dict[int, float]:
    """Seconds of a row that was asked for, by the number of prompts that share passes; 1: a prompt's own passes."""
    query = "SELECT passes, seconds FROM pass_costs WHERE likeness = ? AND at > ?"
    return dict(db.execute(query, (likeness, time.time() - LONG)).fetchall())


def note_passes(tx: QueueTransaction, likeness: str | None, passes: int, stats: dict[str, Any]) -> None:
    """Take in a run that went through; `stats` is what the worker reports: `{passes: {rows, seconds, ...}}`."""
    made = stats.get("passes") or {}
    if not likeness or not made.get("rows"):
        return
    seconds = made["seconds"] / made["rows"]
    known = costs_of(tx.db, likeness).get(passes)
    if known is not None:
        seconds = WEIGHT * seconds + (1 - WEIGHT) * known
    tx.db.execute("INSERT OR REPLACE INTO pass_costs VALUES (?, ?, ?, ?)", (likeness, passes, time.time(), seconds))
    tx.db.execute(
        "DELETE FROM pass_costs WHERE at < (SELECT at FROM pass_costs ORDER BY at DESC LIMIT 1 OFFSET ?)", (MOST,)
    )
