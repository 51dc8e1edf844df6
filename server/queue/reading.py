"""Questions to the file; none changes anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection

from ..protocol.words import ACTIVE, FINISHED, StateName
from .records import Conflict, Page, Prompt, QueueEvent, Receipt
from .texts import dump

__all__ = [
    "NODES",
    "answered",
    "beginning",
    "events",
    "find",
    "history",
    "jobs",
    "listing",
    "loose_claims",
    "others_with",
    "paused",
    "pending_of",
    "plain",
]

_COLUMNS = (  # in the order of the fields of Prompt
    "id, number, state, client_id, created, started, finished, attempts, crashes, epoch, cancelling, targets, workflow,"
    " extra, outputs, meta, messages, sender, likeness, passes, alone, "
    "coalesce((SELECT text FROM summaries WHERE summaries.seq = prompts.seq), '{}'), "
    "coalesce((SELECT program FROM summaries WHERE summaries.seq = prompts.seq), ''), worker, priority, deadline"
)

WAITING_ORDER = ("state DESC", "priority DESC", "number", "seq")
"""Running ones before those that wait, which are in the order in which they run."""
NODES = "json_each(CASE WHEN json_valid(workflow) THEN workflow ELSE '{}' END)"
"""The nodes of a workflow. SQLite's JSON ends at a depth of 1000, and what is deeper has no nodes for it."""


def answered(db: Connection, prompt_id: str, digest: bytes) -> Receipt | None:
    """The answer to the submission with this id and digest; None if there is none with the id, Conflict if there is
    another one."""
    query = "SELECT number, node_errors, warnings, digest FROM prompts WHERE id = ?"
    found = db.execute(query, (prompt_id,)).fetchone()
    if found is None:
        return None
    if found[3] != digest:
        raise Conflict(prompt_id)
    return Receipt(prompt_id, plain(found[0]), json.loads(found[1]), json.loads(found[2]), existed=True)


def find(db: Connection, prompt_id: str) -> Prompt | None:
    found = _prompts(db, "WHERE id = ?", (prompt_id,))
    return found[0] if found else None


def listing(db: Connection, states: Sequence[StateName], limit: int, offset: int, newest_first: bool) -> Page:
    """Prompts in these states: active ones in the order in which they run, finished ones after them by their end."""
    names = _names(states)
    total = db.execute(f"SELECT sum(prompts) FROM counts WHERE state IN ({names})").fetchone()[0] or 0
    where, order = f"state IN ({names})", ["finished IS NOT NULL", "finished", *WAITING_ORDER]
    if set(states) <= set(ACTIVE):  # one of the two indexes has the order
        where, order = f"finished IS NULL AND {where}", list(WAITING_ORDER)
    elif set(states) <= set(FINISHED):
        where, order = f"finished IS NOT NULL AND {where}", ["finished", "seq"]
    if newest_first:
        order = [term.removesuffix(" DESC") if term.endswith(" DESC") else f"{term} DESC" for term in order]
    part = f"WHERE {where} ORDER BY {', '.join(order)} LIMIT ? OFFSET ?"
    if len(order) > len(WAITING_ORDER):  # all are sorted, but only those of the page are read whole
        part = f"WHERE seq IN (SELECT seq FROM prompts {part}) ORDER BY {', '.join(order)}"
    return Page(_prompts(db, part, (limit, offset)), total)


def jobs(
    db: Connection, states: Sequence[StateName], limit: int, offset: int, newest_first: bool, words: Sequence[str] = ()
) -> Page:
    """Prompts in these states in the order in which they were accepted, without those that ended before they began;
    with `words`, those in whose summary each of them occurs."""
    names = _names(states)
    never_began = f"finished IS NOT NULL AND started IS NULL AND state IN ({names})"
    total = db.execute(f"SELECT sum(prompts) FROM counts WHERE state IN ({names})").fetchone()[0] or 0
    total -= db.execute(f"SELECT count(*) FROM prompts WHERE {never_began}").fetchone()[0]
    order = "seq DESC" if newest_first else "seq"
    where = f"WHERE state IN ({names}) AND NOT ({never_began})"
    if words:
        where += f" AND seq IN (SELECT seq FROM summaries WHERE {' AND '.join(['instr(words, ?)'] * len(words))})"
        total = db.execute(f"SELECT count(*) FROM prompts {where}", tuple(words)).fetchone()[0]
    return Page(_prompts(db, f"{where} ORDER BY {order} LIMIT ? OFFSET ?", (*words, limit, offset)), total)


def others_with(db: Connection, prompt_id: str, filename: str) -> bool:
    """Whether another prompt that is known has shown a file of this name."""
    written = (dump(filename), json.dumps(filename, ensure_ascii=False))  # SQLite may have kept either
    where = "id != ? AND finished IS NOT NULL AND (instr(outputs, ?) OR instr(outputs, ?))"
    return db.execute(f"SELECT 1 FROM prompts WHERE {where} LIMIT 1", (prompt_id, *written)).fetchone() is not None


def _names(states: Sequence[StateName]) -> str:
    """Some states in SQL."""
    return ", ".join(f"'{state}'" for state in (*ACTIVE, *FINISHED) if state in states)


def history(db: Connection, limit: int | None, offset: int | None) -> Page:
    """Finished prompts that had been started, oldest first; a limit without an offset means the newest ones."""
    where = "WHERE finished IS NOT NULL AND started IS NOT NULL"
    total = db.execute(f"SELECT count(*) FROM prompts {where}").fetchone()[0]
    if limit is not None and offset is None:
        newest = _prompts(db, f"{where} ORDER BY finished DESC, seq DESC LIMIT ?", (limit,))
        return Page(newest[::-1], total)
    found = _prompts(
        db, f"{where} ORDER BY finished, seq LIMIT ? OFFSET ?", (-1 if limit is None else limit, offset or 0)
    )
    return Page(found, total)


def events(db: Connection, prompt_id: str, since: int, limit: int) -> list[QueueEvent]:
    """Those with a number above `since`, in order."""
    found = db.execute("SELECT seq, client_id FROM prompts WHERE id = ?", (prompt_id,)).fetchone()
    if found is None:
        return []
    rows = db.execute(
        "SELECT number, type, data FROM events WHERE prompt = ? AND number > ? ORDER BY number LIMIT ?",
        (found[0], since, limit),
    ).fetchall()
    return [QueueEvent(prompt_id, number, kind, data, found[1]) for number, kind, data in rows]


def beginning(db: Connection, prompt_id: str) -> tuple[int, int]:
    """The number of the last event (0 if there is none), and how many nodes the workflow has."""
    query = (
        "SELECT (SELECT coalesce(max(number), 0) FROM events WHERE prompt = seq), "
        f"(SELECT count(*) FROM {NODES}) FROM prompts WHERE id = ?"
    )
    last, nodes = db.execute(query, (prompt_id,)).fetchone()
    return last, nodes


def pending_of(db: Connection, client_id: str) -> int:
    query = "SELECT count(*) FROM prompts WHERE client_id = ? AND state = 'pending'"
    return int(db.execute(query, (client_id,)).fetchone()[0])


def paused(db: Connection) -> bool:
    """Whether the queue was paused when its server ended."""
    return bool(db.execute("SELECT paused FROM server").fetchone()[0])


def loose_claims(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT id FROM loose_claims").fetchall()]


def _prompts(db: Connection, clause: str, values: tuple[object, ...]) -> list[Prompt]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM prompts {clause}", values).fetchall()
    return [Prompt(name, plain(number), *rest) for name, number, *rest in rows]


def plain(number: float) -> float:
    """A whole number is shown without a point; the file has all of them as REAL."""
    return int(number) if number == int(number) else number
