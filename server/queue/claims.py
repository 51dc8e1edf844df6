"""The claim of a prompt: which one is next, under which epoch, and how many share its passes; one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from graphflow.spi import PassChoice, costs_of, passes_for

from .ledger import log, now_ms
from .reading import find
from .records import Prompt
from .store import QueueTransaction
from .summary import length_of
from .texts import dump
from .turns import AHEAD, Candidate, Turns

__all__ = ["claim", "costs_key"]

FIRST_WORKER = "local"
SUMMARY = ("model", "steps", "width", "height", "batch")
"""What a candidate has of the summary of its prompt."""


def claim(
    tx: QueueTransaction,
    turns: Turns | None = None,
    at_work: Collection[str] = (),
    share: int = 1,
    worker: str = FIRST_WORKER,
    unfit: frozenset[str] = frozenset(),
) -> Prompt | None:
    """Take a pending prompt to run it, by default the first; the prompt that is given has the epoch to show.

    `at_work` are the ids of those that the caller has, on any worker. Another one that is running was claimed before,
    by the same caller, who did not get the answer: it is given again. Up to `share` prompts share passes. `unfit` are
    the ids of those that this worker cannot run.
    """
    running = tx.db.execute("SELECT id FROM prompts WHERE finished IS NULL AND state = 'running'").fetchall()
    for (prompt_id,) in running:
        if prompt_id not in at_work and prompt_id not in unfit:
            tx.db.execute("UPDATE prompts SET worker = ? WHERE id = ?", (worker, prompt_id))
            return find(tx.db, prompt_id)
    turns = turns or Turns()
    waiting = _waiting(tx, AHEAD if unfit or _is_any_due(tx) else turns.look_ahead)
    chosen = turns.choose(waiting, unfit)
    if chosen is None:
        return None
    choice = _passes(tx, chosen, waiting, turns.beside(chosen, waiting), share, worker)
    tx.db.execute(
        "UPDATE prompts SET state = 'running', epoch = epoch + 1, attempts = attempts + 1, started = ?, worker = ?,"
        " passes = coalesce(passes, ?) WHERE seq = ?",
        (time.time(), worker, choice.passes, chosen.seq),
    )
    prompt = find(tx.db, chosen.id)
    assert prompt is not None
    start = {"prompt_id": prompt.id, "timestamp": now_ms()}
    if prompt.attempts > 1:
        start["attempt"] = prompt.attempts
    log(tx, {"seq": chosen.seq, "id": prompt.id, "client_id": prompt.client_id}, ("execution_start", dump(start)))
    return replace(prompt, compare=choice.compare)


def costs_key(likeness: str, worker: str) -> str:
    """Under which the measured costs of passes are kept: workers are not equally fast. Calculated ones are kept under
    the likeness alone."""
    return f"{likeness} {worker}"


def _is_any_due(tx: QueueTransaction) -> bool:
    query = "SELECT 1 FROM prompts WHERE finished IS NULL AND deadline IS NOT NULL LIMIT 1"
    return tx.db.execute(query).fetchone() is not None


def _waiting(tx: QueueTransaction, count: int) -> list[Candidate]:
    """The first so many pending prompts, in their order."""
    query = (
        "SELECT seq, id, coalesce(nullif(client_id, ''), sender), number != seq, alone, likeness,"
        f" (SELECT json_extract(text, {', '.join(map(_path, SUMMARY))}) FROM summaries WHERE seq = prompts.seq),"
        " priority, deadline"
        " FROM prompts WHERE finished IS NULL AND state = 'pending' ORDER BY priority DESC, number, seq LIMIT ?"
    )
    rows = tx.db.execute(query, (count,)).fetchall()
    return [_candidate(*row) for row in rows]


def _candidate(
    seq: int,
    prompt_id: str,
    client: str,
    is_placed: int,
    alone: int,
    likeness: str | None,
    summary: str | None,
    priority: int,
    deadline: float | None,
) -> Candidate:
    known = dict(zip(SUMMARY, json.loads(summary), strict=True)) if summary else {}
    return Candidate(
        seq=seq,
        id=prompt_id,
        client=client,
        is_placed=bool(is_placed),
        alone=alone,
        likeness=likeness,
        model=known.get("model"),
        length=length_of(known),
        priority=priority,
        deadline=deadline,
    )


def _path(name: str) -> str:
    return f"'$.{name}'"


def _passes(
    tx: QueueTransaction,
    chosen: Candidate,
    waiting: Sequence[Candidate],
    beside: Sequence[Candidate],
    share: int,
    worker: str,
) -> PassChoice:
    """How many prompts are to share the passes of one that begins; `beside`: who of those that wait begins with it."""
    if share == 1 or not chosen.likeness or chosen.runs_alone:
        return PassChoice(1, 1)
    query = (
        "SELECT passes, count(*) FROM prompts WHERE finished IS NULL AND state = 'running' AND likeness = ?"
        " AND worker = ? GROUP BY passes"
    )
    at_work = dict(tx.db.execute(query, (chosen.likeness, worker)).fetchall())
    alike = sum(each.likeness == chosen.likeness for each in beside)
    behind = sum(each.likeness == chosen.likeness and not each.runs_alone for each in waiting) - alike - 1
    known = (costs_of(tx.db, key, time.time()) for key in (costs_key(chosen.likeness, worker), chosen.likeness))
    costs = next(known) or next(known)
    return passes_for(share, alike, at_work, costs, behind)
