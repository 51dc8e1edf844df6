"""What networks answer that act within a transformer, and are not asked by themselves."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...model.config import Config
from ...model.entry import Ask
from .hint import no_back

__all__ = ["back", "forward"]


def forward(
    module: Any, stacked: dict[str, Tensor], common: tuple[Any, ...] = (), ragged: dict[str, list[Tensor]] | None = None
) -> dict[str, Tensor]:
    raise TypeError("this network acts within a transformer, and is not asked by itself")


def back(config: Config, ask: Ask, answers: dict[str, Tensor]) -> Tensor:
    raise no_back()
