"""The row that a family makes of one question to a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Row"]


@dataclass(frozen=True, eq=False)
class Row:
    """The row that a family makes of one question: all that `forward` gets to see, and so all that decides what may
    share a pass."""

    stacked: Mapping[str, Tensor]
    """Without a row axis. Keyed by shape and dtype; numbers that may differ from row to row are 0-d tensors."""
    common: tuple[Any, ...] = ()
    """Hashable; equal for all rows of a pass."""
    ragged: Mapping[str, Tensor] = field(default_factory=dict)
    """Lists whose lengths are free; only where the class pads by itself. Its bucket stands in `common`."""
