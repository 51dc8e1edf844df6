"""The times of runs that have ended, as their workers have reported them."""

from __future__ import annotations

from sqlite3 import Connection

from .store import QueueTransaction

__all__ = ["LARGEST", "find", "keep"]

LARGEST = 1 << 20
"""Bytes of one that is kept."""


def keep(tx: QueueTransaction, prompt_id: str, data: str) -> None:
    """The newest run of a prompt counts."""
    if len(data) <= LARGEST:
        query = "INSERT OR REPLACE INTO traces SELECT seq, ? FROM prompts WHERE id = ?"
        tx.db.execute(query, (data, prompt_id))


def find(db: Connection, prompt_id: str) -> str | None:
    query = "SELECT data FROM traces WHERE prompt = (SELECT seq FROM prompts WHERE id = ?)"
    found = db.execute(query, (prompt_id,)).fetchone()
    return str(found[0]) if found is not None else None
