"""Keeps the file from growing: finished prompts are forgotten, on request or by age."""

from __future__ import annotations

from collections.abc import Sequence

from .store import QueueTransaction

__all__ = ["drop_claims", "forget", "prune", "set_paused"]

PAGES = 10_000
"""Pages of the file that are given back to the system in one go."""


def forget(tx: QueueTransaction, prompt_ids: Sequence[str] | None = None) -> int:
    """Forget finished prompts (None: all); their files stay. How many."""
    if prompt_ids is None:
        seqs = tx.db.execute("SELECT seq FROM prompts WHERE finished IS NOT NULL").fetchall()
    else:
        query = "SELECT seq FROM prompts WHERE id = ? AND finished IS NOT NULL"
        seqs = [row for item in prompt_ids for row in tx.db.execute(query, (item,)).fetchall()]
    _delete(tx, seqs)
    return len(seqs)


def prune(tx: QueueTransaction, count: int, size: int) -> int:
    """Forget the oldest finished prompts until at most `count` are left, of at most `size` bytes. How many went."""
    have, total = tx.db.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM prompts WHERE finished IS NOT NULL"
    ).fetchone()
    gone = []
    if have > count or total > size:
        oldest = tx.db.execute("SELECT seq, size FROM prompts WHERE finished IS NOT NULL ORDER BY finished, seq")
        for seq, bytes_ in oldest.fetchall():
            if have <= count and total <= size:
                break
            gone.append((seq,))
            have, total = have - 1, total - bytes_
        _delete(tx, gone)
    return len(gone)


def drop_claims(tx: QueueTransaction, prompt_ids: list[str]) -> None:
    """The notes of these runs about their files are gone."""
    tx.db.executemany("DELETE FROM loose_claims WHERE id = ?", [(prompt_id,) for prompt_id in prompt_ids])


def set_paused(tx: QueueTransaction, paused: bool) -> None:
    """Remember it over a restart."""
    tx.db.execute("UPDATE server SET paused = ?", (paused,))


def _delete(tx: QueueTransaction, seqs: list[tuple[int]]) -> None:
    tx.db.executemany("DELETE FROM events WHERE prompt = ?", seqs)
    tx.db.executemany("DELETE FROM prompts WHERE seq = ?", seqs)
    # What became of a webhook is known as long as its prompt; one that is still due is sent all the same.
    tx.db.execute("DELETE FROM webhooks WHERE due IS NULL AND prompt_id NOT IN (SELECT id FROM prompts)")
    tx.db.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()  # a page for each row that is fetched
