"""Questions to the file; none changes anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection

from .records import Event, Page, Prompt, State

__all__ = ["events", "find", "history", "listing", "loose_claims", "pending_of"]

_COLUMNS = (
    "id, number, state, client_id, created, started, finished, attempts, crashes, epoch, cancelling, targets, workflow,"
    " extra, outputs, meta, messages"
)


def find(db: Connection, prompt_id: str) -> Prompt | None:
    found = _prompts(db, "WHERE id = ?", (prompt_id,))
    return found[0] if found else None


def listing(db: Connection, states: Sequence[State], limit: int, offset: int, newest_first: bool) -> Page:
    """Prompts in these states: active ones in the order in which they run, finished ones by their end."""
    marks = ", ".join("?" * len(states))
    order = "(state = 'pending'), coalesce(finished, 0), number, seq"
    if newest_first:
        order = "(state = 'pending') DESC, coalesce(finished, 0) DESC, number DESC, seq DESC"
    total = db.execute(f"SELECT count(*) FROM prompts WHERE state IN ({marks})", tuple(states)).fetchone()[0]
    if tuple(states) == ("pending",) and not newest_first:
        order = "number, seq"
    return Page(
        _prompts(db, f"WHERE state IN ({marks}) ORDER BY {order} LIMIT ? OFFSET ?", (*states, limit, offset)), total
    )


def history(db: Connection, limit: int | None, offset: int | None) -> Page:
    """Finished prompts that had been started, oldest first; a limit without an offset means the newest ones."""
    where = "WHERE finished IS NOT NULL AND started IS NOT NULL"
    total = db.execute(f"SELECT count(*) FROM prompts {where}").fetchone()[0]
    if offset is None:
        offset = 0 if limit is None else max(0, total - limit)
    limit = -1 if limit is None else limit
    return Page(_prompts(db, f"{where} ORDER BY finished, seq LIMIT ? OFFSET ?", (limit, offset)), total)


def events(db: Connection, prompt_id: str, since: int, limit: int) -> list[Event]:
    """Those with a number above `since`, in order."""
    found = db.execute("SELECT seq, client_id FROM prompts WHERE id = ?", (prompt_id,)).fetchone()
    if found is None:
        return []
    rows = db.execute(
        "SELECT number, type, data FROM events WHERE prompt = ? AND number > ? ORDER BY number LIMIT ?",
        (found[0], since, limit),
    ).fetchall()
    return [Event(prompt_id, number, kind, json.loads(data), found[1]) for number, kind, data in rows]


def pending_of(db: Connection, client_id: str) -> int:
    query = "SELECT count(*) FROM prompts WHERE client_id = ? AND state = 'pending'"
    return int(db.execute(query, (client_id,)).fetchone()[0])


def loose_claims(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT id FROM loose_claims").fetchall()]


def _prompts(db: Connection, clause: str, values: tuple[object, ...]) -> list[Prompt]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM prompts {clause}", values).fetchall()
    return [
        Prompt(
            id, int(number) if number == int(number) else number, state, client_id, created, started, finished, attempts,
            crashes, epoch, bool(cancelling), tuple(json.loads(targets)), workflow, extra, outputs, meta, messages,
        )
        for id, number, state, client_id, created, started, finished, attempts, crashes, epoch, cancelling, targets,
            workflow, extra, outputs, meta, messages in rows
    ]  # fmt: skip
