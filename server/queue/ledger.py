"""The changes of a prompt, each as one transaction: accept, append, finish, release, crash, cancel, move. The claim
has a file of its own.

    pending --claim--> running --finish--> done | failed | cancelled
       ^                  |
       +--release, crash--+        (a crash too many: failed)
       +-----suspect------+        (it ran beside others: from now on it runs alone)
       +------lose--------+        (its worker on another machine is out of reach)

Who runs a prompt holds its epoch. Every claim, and every end of a claim, raises it; what comes with an older epoch
changes nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from sqlite3 import Row
from typing import Any

from graphflow import Problem
from graphflow.spi import PassCost, note_cost

from ..protocol.words import TERMINAL, CancelResult, StateName
from .reading import NODES, answered, plain
from .records import QueueEvent, QueueUnavailable, Receipt, Submission
from .store import QueueTransaction
from .texts import dump

__all__ = [
    "accept",
    "append",
    "cancel",
    "cancel_pending",
    "crash",
    "finish",
    "is_elsewhere",
    "log",
    "lose",
    "move",
    "move_before",
    "now_ms",
    "recover",
    "release",
    "suspect",
]

EPOCH_BITS = 20
"""A prompt has at most so many starts and ends, as a power of two: above them its epochs hold its place in the file."""

_NEEDED = "seq, id, client_id, crashes, losses, cancelling, started, webhook"
ELSEWHERE = "@"
"""How the names of workers on other machines begin."""
MOST_LOSSES = 5
"""So often a prompt is put back when its worker on another machine is lost; after that each loss counts as a crash."""

_STATE: dict[str, StateName] = {
    "execution_success": "done",
    "execution_error": "failed",
    "execution_interrupted": "cancelled",
}


def accept(tx: QueueTransaction, wanted: Submission, most: int | None = None) -> Receipt:
    """Put it into the queue. Raises Conflict if the id is taken by something else, QueueUnavailable where `most`
    prompts of the same sender wait already."""
    wanted = wanted.sealed()
    prompt_id = wanted.prompt_id or str(uuid.uuid4())
    known = answered(tx.db, prompt_id, wanted.digest)
    if known is not None:
        return known
    if most is not None:
        waiting = tx.db.execute("SELECT prompts FROM waiting WHERE sender = ?", (wanted.sender,)).fetchone()
        if waiting is not None and waiting[0] >= most:
            raise QueueUnavailable(
                [
                    Problem(
                        "queue_full",
                        f"{most} prompts of {wanted.sender or 'yours'} wait already",
                        hint="try again when some of them are done",
                    )
                ]
            )
    workflow, extra = dump(wanted.workflow), dump(wanted.extra)
    seq = tx.db.execute(
        "INSERT INTO prompts (id, number, state, client_id, created, size, digest, webhook, targets, node_errors, "
        "workflow,"
        " extra, sender, warnings, likeness, priority, deadline)"
        " VALUES (?, 0, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            prompt_id,
            wanted.client_id,
            time.time(),
            len(workflow) + len(extra),
            wanted.digest,
            wanted.webhook,
            dump(wanted.targets),
            dump(wanted.node_errors),
            workflow,
            extra,
            wanted.sender,
            dump(wanted.warnings),
            wanted.likeness,
            wanted.priority,
            time.time() + wanted.within if wanted.within is not None else None,
        ),
    ).lastrowid
    assert seq is not None
    assert wanted.summary is not None
    for passes, ratio in wanted.pass_costs.items():
        note_cost(tx.db, wanted.likeness, passes, PassCost(calculated=ratio), time.time())
    tx.db.execute(
        "INSERT INTO summaries VALUES (?, ?, ?, ?)",
        (seq, wanted.summary.text, f"{prompt_id.casefold()} {wanted.summary.words}", wanted.summary.program),
    )
    number = wanted.number if wanted.number is not None else (-seq if wanted.front else seq)
    # An id may be used again after its prompt was forgotten: its epochs must not be those of the former one.
    tx.db.execute("UPDATE prompts SET number = ?, epoch = ? WHERE seq = ?", (number, seq << EPOCH_BITS, seq))
    return Receipt(prompt_id, plain(number), wanted.node_errors, wanted.warnings, existed=False)


def append(tx: QueueTransaction, prompt_id: str, epoch: int, events: list[tuple[str, str]], after: int) -> int:
    """Add events (type, data in JSON) to the log, behind the one with the number `after`; the number of the last one
    then.

    Those that are there already, since a writer did not get its answer and writes again, are left as they are. If the
    epoch is over, nothing is written.
    """
    held = _held(tx, prompt_id, epoch)
    if held is None:
        return after
    return log(tx, held, *events, after=after)


def finish(tx: QueueTransaction, prompt_id: str, epoch: int, kind: str, data: dict[str, Any]) -> StateName | None:
    """Outputs, final state and last event, all or nothing; None if the epoch is over.

    Whoever asked for a cancel before this has won, even if the run went through in the meantime.
    """
    held = _held(tx, prompt_id, epoch)
    if held is None:
        return None
    if held["cancelling"] and kind == "execution_success":
        kind, data = "execution_interrupted", _interrupted(tx, held["seq"], prompt_id)
    return _end(tx, held, kind, data)


def release(tx: QueueTransaction, prompt_id: str, epoch: int) -> bool:
    """Put it back where it was, as if it had not been started: the process is shutting down."""
    held = _held(tx, prompt_id, epoch)
    if held is None:
        return False
    if held["cancelling"]:
        _end(tx, held, "execution_interrupted", _interrupted(tx, held["seq"], prompt_id))
        return True
    tx.db.execute(
        "UPDATE prompts SET state = 'pending', epoch = epoch + 1, attempts = attempts - 1 WHERE seq = ?", (held["seq"],)
    )
    return True


def crash(
    tx: QueueTransaction, prompt_id: str, epoch: int, reason: str, limit: int, at: tuple[str, str] | None = None
) -> StateName | None:
    """The process that ran it has died: put it back, or give it up if that has happened `limit` times.

    `at` is the node it had begun last and the node of the workflow that this belongs to, where that is known.
    """
    held = _held(tx, prompt_id, epoch)
    if held is None:
        return None
    crashes = held["crashes"] + 1
    tx.db.execute("UPDATE prompts SET crashes = ? WHERE seq = ?", (crashes, held["seq"]))
    if held["cancelling"]:
        return _end(tx, held, "execution_interrupted", _interrupted(tx, held["seq"], prompt_id))
    if crashes < limit:
        tx.db.execute("UPDATE prompts SET state = 'pending', epoch = epoch + 1 WHERE seq = ?", (held["seq"],))
        return "pending"
    node, kind = _running_node(tx, held["seq"], at)
    times = "once" if crashes == 1 else f"{crashes} times"
    error: dict[str, Any] = {
        "prompt_id": prompt_id,
        "node_id": node,
        "node_type": kind,
        "executed": _executed(tx, held["seq"]),
        "exception_type": "CrashedWorker",
        "exception_message": f"crashed worker: the process died {times} while this prompt ran ({reason})\n",
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": now_ms(),
    }
    return _end(tx, held, "execution_error", error)


def lose(tx: QueueTransaction, prompt_id: str, epoch: int, reason: str, limit: int) -> StateName | None:
    """Its worker on another machine is out of reach: put it back, for whoever takes it next. That is not a crash of it,
    but for one that this happens to again and again: it may be what takes the machines down."""
    held = _held(tx, prompt_id, epoch)
    if held is None:
        return None
    tx.db.execute("UPDATE prompts SET losses = losses + 1 WHERE seq = ?", (held["seq"],))
    if held["losses"] >= MOST_LOSSES:
        return crash(tx, prompt_id, epoch, reason, limit)
    release(tx, prompt_id, epoch)
    return "pending"


def suspect(tx: QueueTransaction, prompt_id: str, epoch: int, alone: int = 1, is_short: bool = False) -> bool:
    """It was one of several when their process died, or was short of memory: put it back, to run alone. That is not
    counted as a crash of it. `alone`: 1, on its worker; 2, on all. `is_short`: of memory, so its passes are no longer
    larger than it needs; its samplers start anew, as the size is in their recipes."""
    held = _held(tx, prompt_id, epoch)
    if held is None:
        return False
    if held["cancelling"]:
        _end(tx, held, "execution_interrupted", _interrupted(tx, held["seq"], prompt_id))
    else:
        tx.db.execute(
            "UPDATE prompts SET state = 'pending', epoch = epoch + 1, alone = max(alone, ?),"
            " passes = CASE WHEN ? THEN 1 ELSE passes END WHERE seq = ?",
            (alone, is_short, held["seq"]),
        )
    return True


def recover(
    tx: QueueTransaction, limit: int, last_node: Callable[[str, int], tuple[str, str] | None] = lambda *_: None
) -> None:
    """At the start of the server nothing runs: what the file has as running died with the process before. Those that
    were on other machines are put back."""
    query = "SELECT id, epoch, coalesce(worker, '') FROM prompts WHERE finished IS NULL AND state = 'running'"
    running = tx.db.execute(query).fetchall()
    here = [(prompt_id, epoch, worker) for prompt_id, epoch, worker in running if not is_elsewhere(worker)]
    for prompt_id, epoch, worker in running:
        if is_elsewhere(worker):
            release(tx, prompt_id, epoch)
        elif len(here) > 1:
            suspect(tx, prompt_id, epoch, 2 if len({worker for _, _, worker in here}) > 1 else 1)
        else:
            crash(tx, prompt_id, epoch, "the server was killed", limit, last_node(prompt_id, epoch))


def is_elsewhere(worker: str) -> bool:
    """Whether a worker of this name is on another machine."""
    return worker.startswith(ELSEWHERE)


def cancel(tx: QueueTransaction, prompt_id: str) -> CancelResult:
    """Pending: it ends here and now. Running: it will end as cancelled, whatever its worker still does."""
    found = _row(tx, f"SELECT {_NEEDED}, state FROM prompts WHERE id = ?", (prompt_id,))
    if found is None:
        return "unknown"
    if found["state"] == "pending":
        _end(tx, found, "execution_interrupted", _interrupted(tx, found["seq"], prompt_id))
        return "cancelled"
    if found["state"] == "running":
        tx.db.execute("UPDATE prompts SET cancelling = 1 WHERE seq = ?", (found["seq"],))
        return "cancelling"
    return "finished"


def cancel_pending(tx: QueueTransaction, prompt_ids: Sequence[str] | None = None) -> list[str]:
    """Cancel those of these prompts (None: of all) that wait; their ids."""
    if prompt_ids is None:
        query = "SELECT id FROM prompts WHERE finished IS NULL AND state = 'pending'"
        chosen = [row[0] for row in tx.db.execute(query).fetchall()]
    else:
        query = "SELECT 1 FROM prompts WHERE id = ? AND state = 'pending'"
        chosen = [item for item in dict.fromkeys(prompt_ids) if tx.db.execute(query, (item,)).fetchone()]
    for prompt_id in chosen:
        cancel(tx, prompt_id)
    return chosen


def move(tx: QueueTransaction, prompt_id: str, number: float | None) -> float | None:
    """Give a pending prompt another number (None: the first place); the number, or None if it is not pending."""
    found = tx.db.execute("SELECT seq FROM prompts WHERE id = ? AND state = 'pending'", (prompt_id,)).fetchone()
    if found is None:
        return None
    if number is None:
        query = "SELECT min(number) - 1, max(priority) FROM prompts WHERE finished IS NULL AND state = 'pending'"
        number, priority = tx.db.execute(query).fetchone()
        tx.db.execute("UPDATE prompts SET priority = ? WHERE seq = ?", (priority, found[0]))
    tx.db.execute("UPDATE prompts SET number = ? WHERE seq = ?", (number, found[0]))
    return plain(number)


def move_before(tx: QueueTransaction, prompt_id: str, before: str | None) -> int | None:
    """Put a pending prompt before another one (None: behind all); its place from 0, or None if one of them is not
    pending."""
    query = (
        "SELECT id, seq, number, priority FROM prompts WHERE finished IS NULL AND state = 'pending'"
        " ORDER BY priority DESC, number, seq"
    )
    waiting = {row[0]: row[1:] for row in tx.db.execute(query).fetchall()}
    mine = waiting.pop(prompt_id, None)
    if mine is None or (before is not None and before not in waiting):
        return None
    level = next(reversed(waiting.values()), mine)[2] if before is None else waiting[before][2]
    tx.db.execute("UPDATE prompts SET priority = ? WHERE seq = ?", (level, mine[0]))
    rows = {name: row[:2] for name, row in waiting.items() if row[2] == level}
    ahead = sum(1 for row in waiting.values() if row[2] > level)
    place = len(rows) if before is None else list(rows).index(before)
    numbers = [number for _, number in rows.values()]
    lower = numbers[place - 1] if place > 0 else None
    upper = numbers[place] if place < len(numbers) else None
    number = _between(lower, upper)
    if number is None:  # no room is left between them: all get new numbers
        others = [seq for seq, _ in rows.values()]
        order = [*others[:place], mine[0], *others[place:]]
        first = numbers[0]
        tx.db.executemany(
            "UPDATE prompts SET number = ? WHERE seq = ?", [(first + index, seq) for index, seq in enumerate(order)]
        )
    else:
        tx.db.execute("UPDATE prompts SET number = ? WHERE seq = ?", (number, mine[0]))
    return ahead + place


def _between(lower: float | None, upper: float | None) -> float | None:
    if lower is None or upper is None:
        return upper - 1 if upper is not None else lower + 1 if lower is not None else 0.0
    middle = (lower + upper) / 2
    return middle if lower < middle < upper else None


# -- parts ----------------------------------------------------------------------------------------------------------


def _held(tx: QueueTransaction, prompt_id: str, epoch: int) -> Row | None:
    """The running prompt, if this epoch is still the one that counts."""
    query = f"SELECT {_NEEDED} FROM prompts WHERE id = ? AND epoch = ? AND state = 'running'"
    return _row(tx, query, (prompt_id, epoch))


def _row(tx: QueueTransaction, query: str, values: tuple[Any, ...]) -> Row | None:
    cursor = tx.db.cursor()
    cursor.row_factory = Row
    found: Row | None = cursor.execute(query, values).fetchone()
    return found


def _end(tx: QueueTransaction, held: Row, kind: str, data: dict[str, Any]) -> StateName:
    """The last event, the final state, and all that is known of the prompt by then."""
    seq, prompt_id, last = held["seq"], held["id"], dump(data)
    log(tx, held, (kind, last))
    outputs, meta = _shown(tx, seq)
    size = tx.db.execute("SELECT sum(length(data)) FROM events WHERE prompt = ?", (seq,)).fetchone()[0]
    tx.db.execute(
        "UPDATE prompts SET state = ?, finished = ?, epoch = epoch + 1, cancelling = 0, outputs = ?, meta = ?, "
        "messages = ?,"
        " size = size + ? WHERE seq = ?",
        (_STATE[kind], time.time(), outputs, dump(meta), _messages(tx, seq), size, seq),
    )
    if held["started"] is not None:
        tx.db.execute("INSERT OR IGNORE INTO loose_claims VALUES (?)", (prompt_id,))
    if held["webhook"] is not None:
        event = f'{{"type":{dump(kind)},"data":{last}}}'
        body = f'{{"prompt_id":{dump(prompt_id)},"state":{dump(_STATE[kind])},"outputs":{outputs},"event":{event}}}'
        tx.db.execute(
            "INSERT INTO webhooks (id, prompt_id, url, body, due) VALUES (?, ?, ?, ?, ?)",
            (str(uuid.uuid4()), prompt_id, held["webhook"], body, time.time()),
        )
    return _STATE[kind]


def _shown(tx: QueueTransaction, seq: int) -> tuple[str, dict[str, Any]]:
    """The sum of a log: outputs by node in JSON, and what ComfyUI calls `meta`. Outputs may be large, so SQLite takes
    them apart, which lets other threads run.

    What an attempt before the last one has shown is there, too; of what was shown again, the last word counts.
    """
    outputs: dict[str, str] = {}
    meta: dict[str, Any] = {}
    query = (
        "SELECT json_extract(data, '$.node'), json_extract(data, '$.display_node'), json_quote(json_extract(data, "
        "'$.output'))"
        " FROM events WHERE prompt = ? AND type = 'executed' AND json_valid(data) ORDER BY number"
    )
    for node, display, output in tx.db.execute(query, (seq,)):
        outputs[node] = output
        meta[node] = {"node_id": node, "display_node": display, "parent_node": None, "real_node_id": node}
    return "{" + ",".join(f"{dump(node)}:{output}" for node, output in outputs.items()) + "}", meta


def _messages(tx: QueueTransaction, seq: int) -> str:
    """`[[type, data], ...]` of the last attempt, in JSON: its start, what was cached, its end."""
    wanted = ("execution_start", "execution_cached", *TERMINAL)
    query = f"SELECT type, data FROM events WHERE prompt = ? AND type IN {wanted} ORDER BY number"
    messages: list[str] = []
    for kind, data in tx.db.execute(query, (seq,)):
        if kind == "execution_start":
            messages.clear()
        messages.append(f"[{dump(kind)},{data}]")
    return f"[{','.join(messages)}]"


def log(tx: QueueTransaction, prompt: Row | dict[str, Any], *events: tuple[str, str], after: int | None = None) -> int:
    """Add events to the log of a prompt (its `seq`, `id` and `client_id`), behind `after` or the last one; the number
    of the last one then. What has such a number already stays as it is."""
    seq = prompt["seq"]
    last = tx.db.execute("SELECT max(number) FROM events WHERE prompt = ?", (seq,)).fetchone()[0] or 0
    first = last + 1 if after is None else after + 1
    numbered = [(number, *event) for number, event in enumerate(events, first) if number > last]
    tx.db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", [(seq, n, kind, data) for n, kind, data in numbered])
    tx.events.extend(QueueEvent(prompt["id"], n, kind, data, prompt["client_id"]) for n, kind, data in numbered)
    return last + len(numbered)


def _running_node(tx: QueueTransaction, seq: int, at: tuple[str, str] | None = None) -> tuple[str | None, str | None]:
    """The node that was started last in the attempt at hand, and its type; by the log, if it is not known better."""
    if at is None:
        at = tx.db.execute(
            "SELECT json_extract(data, '$.node'), json_extract(data, '$.display_node') FROM events WHERE prompt = ?1"
            " AND type = 'executing' AND number >"
            " (SELECT max(number) FROM events WHERE prompt = ?1 AND type = 'execution_start')"
            " ORDER BY number DESC LIMIT 1",
            (seq,),
        ).fetchone()
        if at is None:
            return None, None
    query = f"SELECT json_extract(value, '$.class_type') FROM prompts, {NODES} WHERE seq = ? AND key = ?"
    found = tx.db.execute(query, (seq, at[1])).fetchone()
    return at[0], found[0] if found is not None else None


def _executed(tx: QueueTransaction, seq: int) -> list[str]:
    query = (
        "SELECT json_extract(data, '$.node') FROM events WHERE prompt = ? AND type = 'executed' AND json_valid(data)"
        " ORDER BY number"
    )
    return list(dict.fromkeys(node for (node,) in tx.db.execute(query, (seq,))))


def _interrupted(tx: QueueTransaction, seq: int, prompt_id: str) -> dict[str, Any]:
    node, kind = _running_node(tx, seq)
    return {
        "prompt_id": prompt_id,
        "node_id": node,
        "node_type": kind,
        "executed": _executed(tx, seq),
        "timestamp": now_ms(),
    }


def now_ms() -> int:
    return int(time.time() * 1000)
