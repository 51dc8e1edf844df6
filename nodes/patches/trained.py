"""Weights that were trained, in place of those of a file: a patch of weights that holds whole ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.patch import WeightPatch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TrainedWeights"]


@dataclass(frozen=True)
class TrainedWeights(WeightPatch):
    """The tensors of a safetensors file by the names `PART/PARAMETER`."""

    path: str = field(compare=False)
    digest: str

    def identity(self) -> Any:
        return ["trained", self.digest]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        held = _names(self.path)
        return frozenset(name for name in parameters if f"{part}/{name}" in held)

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        found: Tensor = _opened(self.path).get_tensor(f"{part}/{parameter}").float()
        if found.shape != weight.shape:
            message = f"the trained {parameter} has the shape {list(found.shape)}, the model's {list(weight.shape)}"
            hint = "use them with the model that they were trained from"
            raise GraphFlowError([Problem("wrong_weights", message, input="trained", hint=hint)])
        return found


@lru_cache(maxsize=4)
def _opened(path: str) -> Any:
    from safetensors import safe_open

    return safe_open(path, "pt")


@lru_cache(maxsize=4)
def _names(path: str) -> frozenset[str]:
    return frozenset(_opened(path).keys())
