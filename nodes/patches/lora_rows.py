"""A LoRA applied by rows: the weights stay as they are, and rows with different LoRAs share a pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphflow.spi import AppliedPatch

from ..model.patch import RowPatch
from .lora import LoraFile, numbers_of
from .lora_keys import LoraMatch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LoraByRows", "by_rows"]

LOW_RANK = frozenset({"up", "down", "mid", "alpha"})


def by_rows(match: LoraMatch) -> bool:
    """Whether a module is the sum of low-rank terms alone, beside a whole weight: what can be applied by rows."""
    roles = {role for role, _ in match.roles}
    whole = len(match.places) == 1 and match.places[0].rows is None
    return whole and {"up", "down"} <= roles <= LOW_RANK


@dataclass(frozen=True)
class LoraByRows(RowPatch):
    file: LoraFile
    strength: float
    matches: tuple[LoraMatch, ...] = field(compare=False, repr=False)
    """Those modules that can be applied by rows."""
    total: int = field(default=0, compare=False)

    def identity(self) -> Any:
        return ["lora_by_rows", self.file.digest, self.strength]

    def terms(self, part: str) -> Mapping[str, tuple[Tensor, Tensor]]:
        found = {}
        for match in self.matches:
            if match.part == part:
                up, down = _terms(self.file, match)
                found[match.places[0].module] = (self.strength * up, down)
        return found

    def applied(self, part: str) -> AppliedPatch:
        here = sum(match.part == part for match in self.matches)
        return AppliedPatch(self.file.name, self.strength, "rows", here, len(self.matches), self.total)


@lru_cache(maxsize=4096)
def _terms(file: LoraFile, match: LoraMatch) -> tuple[Tensor, Tensor]:
    from .lora_kinds import low_rank

    found = low_rank(numbers_of(file, match))
    assert found is not None
    up, down = found
    return up, down.flatten(1)
