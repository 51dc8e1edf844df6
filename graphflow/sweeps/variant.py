"""The results of one variant of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..document.workflow import Place
from ..problem import Problem
from ..results import NodeResult, SavedImage
from .axes import Variant

__all__ = ["VariantResult", "label"]


def label(value: Any) -> str:
    """A value in a few words."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class VariantResult:
    """The results of one variant, or why there are none."""

    variant: Variant
    nodes: dict[str, NodeResult]
    """Its outputs, by the ids of the nodes in the workflow."""
    problems: tuple[Problem, ...] = ()

    @property
    def index(self) -> int:
        return self.variant.index

    @property
    def values(self) -> dict[Place, Any]:
        return self.variant.values

    @property
    def failed(self) -> bool:
        return bool(self.problems)

    @property
    def images(self) -> list[SavedImage]:
        return [image for item in self.nodes.values() for image in item.images]

    @property
    def paths(self) -> list[Path]:
        """All files that it has written, images among them."""
        return [path for item in self.nodes.values() for path in item.paths]
