"""The claim of a prompt: which one is next, under which epoch, and how many share its passes; one transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from .ledger import log, now_ms
from .reading import find
from .records import Prompt
from .sharing import passes_for
from .store import QueueTransaction
from .texts import dump
from .turns import Candidate, Turns

__all__ = ["claim"]


def claim(
    tx: QueueTransaction, turns: Turns | None = None, at_work: Collection[str] = (), share: int = 1
) -> Prompt | None:
    """Take a pending prompt to run it, by default the first; the prompt that is given has the epoch to show.

    `at_work` are the ids of those that the caller has. Another one that is running was claimed before, by the same
    caller, who did not get the answer: it is given again. Up to `share` prompts share passes.
    """
    running = tx.db.execute("SELECT id FROM prompts WHERE finished IS NULL AND state = 'running'").fetchall()
    for (prompt_id,) in running:
        if prompt_id not in at_work:
            return find(tx.db, prompt_id)
    turns = turns or Turns()
    waiting = _waiting(tx, turns.look_ahead)
    chosen = turns.choose(waiting)
    if chosen is None:
        return None
    tx.db.execute(
        "UPDATE prompts SET state = 'running', epoch = epoch + 1, attempts = attempts + 1, started = ?,"
        " passes = coalesce(passes, ?) WHERE seq = ?",
        (time.time(), _passes(tx, chosen, turns.beside(chosen, waiting), share), chosen.seq),
    )
    prompt = find(tx.db, chosen.id)
    assert prompt is not None
    start = {"prompt_id": prompt.id, "timestamp": now_ms()}
    if prompt.attempts > 1:
        start["attempt"] = prompt.attempts
    log(tx, {"seq": chosen.seq, "id": prompt.id, "client_id": prompt.client_id}, ("execution_start", dump(start)))
    return prompt


def _waiting(tx: QueueTransaction, count: int) -> list[Candidate]:
    """The first so many pending prompts, in their order."""
    query = (
        "SELECT seq, id, coalesce(nullif(client_id, ''), sender), number != seq, alone, likeness FROM prompts"
        " WHERE finished IS NULL AND state = 'pending' ORDER BY number, seq LIMIT ?"
    )
    rows = tx.db.execute(query, (count,)).fetchall()
    return [
        Candidate(seq, name, client, bool(placed), bool(alone), like) for seq, name, client, placed, alone, like in rows
    ]


def _passes(tx: QueueTransaction, chosen: Candidate, beside: Sequence[Candidate], share: int) -> int:
    """How many prompts are to share the passes of one that begins; `beside`: who begins with it."""
    if share == 1 or not chosen.likeness or chosen.runs_alone:
        return 1
    query = (
        "SELECT passes, count(*) FROM prompts WHERE finished IS NULL AND state = 'running' AND likeness = ?"
        " GROUP BY passes"
    )
    at_work = dict(tx.db.execute(query, (chosen.likeness,)).fetchall())
    alike = sum(each.likeness == chosen.likeness for each in beside)
    return passes_for(share, alike, at_work)
