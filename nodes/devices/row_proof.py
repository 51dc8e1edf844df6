"""Whether the bits of a row depend on the rows beside it in a pass: tested on devices where nobody has measured it.

When rows of two samplers first meet in a pass of a key, the pass is made for each of them alone as well. The answers of
these are used, and where their bits are not those of the shared pass, rows of that key never share one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch

from ..model.row import Row
from .forward import Answers

__all__ = ["RowProof"]


class RowProof:
    """Of one device; used by its thread alone."""

    def __init__(self, is_needed: bool) -> None:
        """`is_needed`: not on CPUs, where it was measured."""
        self._is_needed = is_needed
        self._found: dict[Hashable, bool] = {}

    def denies(self, key: Hashable) -> bool:
        """Whether rows of this key were found to depend on each other."""
        return self._found.get(key) is False

    def checked(
        self,
        key: Hashable,
        together: Answers,
        parts: Sequence[Sequence[int]],
        rows: Sequence[Row],
        answers_of: Callable[[list[Row]], Answers],
    ) -> Answers:
        """The answers to `rows` of a shared pass; the first time of a key, those of `answers_of` for each part alone.
        A part holds the places in `rows` of one sampler's rows."""
        if not self._is_needed or key in self._found:
            return together
        alone: dict[int, Answers] = {}
        for part in parts:
            answers = answers_of([rows[index] for index in part])
            alone |= {index: {name: made[at] for name, made in answers.items()} for at, index in enumerate(part)}
        self._found[key] = all(
            torch.equal(made, together[name][index]) for index, answer in alone.items() for name, made in answer.items()
        )
        return {name: torch.stack([alone[index][name] for index in range(len(rows))]) for name in together}
