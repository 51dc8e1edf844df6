"""The condition of Qwen-Image 2.1, kept over the steps: text and reference images have time 0 and do not see the image
that is made, so their keys and values are the same in all of them. They are asked for once a run, with the smallest
image in place of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...model.patch import CallPatch
from ...model.row import Row

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["KEEP", "ConditionKept"]

KEEP = "keep"
"""Stands before `common` in a question for keys and values."""


@dataclass(frozen=True)
class ConditionKept(CallPatch):
    """Keys and values of the condition are computed once a run."""

    def identity(self) -> Any:
        return ["condition_kept"]

    def kept(self, row: Row) -> Row | None:
        same = {name: row.stacked[name] for name in ("text", "references") if name in row.stacked}
        return Row(same, common=(KEEP, row.common))

    def around(self, module: Module) -> AbstractContextManager[None]:
        return nullcontext()
