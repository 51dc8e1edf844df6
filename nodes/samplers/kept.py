"""What a network computes alike in all steps of a run, asked once: keys and values of references and prompts.

It is a question of its own, in a pass of the same size, about nothing but what stays the same: so its answers do not
depend on the step that needs them first, and a run that goes on after a kill asks it again and has the same bits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

from torch import Tensor

from ..devices.forward import Answers, ForwardCall
from ..devices.passes import Seat
from ..model.patch import CallPatch, Patch
from ..model.row import Row
from .row_terms import terms_on

__all__ = ["KeptAnswers", "keeps"]


def keeps(patches: Iterable[Patch]) -> bool:
    """Whether one of the patches may keep anything."""
    return any(isinstance(patch, CallPatch) and type(patch).kept is not CallPatch.kept for patch in patches)


class KeptAnswers:
    """Of one run."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Row, Answers]] = {}
        """With the row that was asked: keys name its tensors by identity, and it holds them."""

    def on(self, seat: Seat, patches: Iterable[Patch], call: ForwardCall, rows: Sequence[Row]) -> list[Row]:
        """The rows with what patches keep for them."""
        rows = list(rows)
        for patch in patches:
            if isinstance(patch, CallPatch):
                questions = [_question(patch, row) for row in rows]
                keys = [_key(seat, call, one) if one is not None else None for one in questions]
                self._ask(seat, call, dict(zip(keys, questions, strict=True)))
                rows = [
                    row if key is None else replace(row, stacked={**row.stacked, **self._found[key][1]})
                    for row, key in zip(rows, keys, strict=True)
                ]
        return rows

    def _ask(self, seat: Seat, call: ForwardCall, questions: dict[Hashable, Row | None]) -> None:
        new = {key: row for key, row in questions.items() if row is not None and key not in self._found}
        for (key, row), answers in zip(new.items(), seat.ask(call, list(new.values())), strict=True):
            self._found[key] = (row, answers)


def _question(patch: CallPatch, row: Row) -> Row | None:
    """With the low-rank terms that the row carries."""
    terms = terms_on(row)
    if terms is None:
        return patch.kept(row)
    question = patch.kept(terms.off(row))
    return terms.on(question) if question is not None else None


def _key(seat: Seat, call: ForwardCall, row: Row) -> Hashable:
    return call.key, seat.size, row.common, tuple((name, _same(tensor)) for name, tensor in row.stacked.items())


def _same(tensor: Tensor) -> Hashable:
    """Numbers are made anew for each question, and count by value."""
    return float(tensor) if tensor.dim() == 0 else id(tensor)
