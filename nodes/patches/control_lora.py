"""Weights that are not in a file: those of another model, each with the low-rank change that the file has for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..files.convert import TensorPlace, place_of
from ..files.header import read_header
from ..model.handles import WeightsHandle, WeightsSource
from ..model.patch import WeightPatch
from .weights import reader_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OverBase"]

Table = tuple[tuple[str, TensorPlace | str], ...]


@dataclass(frozen=True)
class OverBase(WeightPatch):
    r"""Gives the weights that a file lacks.

    .. math:: W = W_{base} + up \, down

    `up` [out, r] and `down` [r, in, ...] are those of the file under the weight's name in it; without them W is the
    base's own. Computed in float32.
    """

    base: WeightsHandle
    source: WeightsSource
    table: Table = field(compare=False, repr=False)
    """Name of a module or a parameter -> its place in the file (see files/convert.py)."""
    only: str = ""
    """What the names of weights that are the base's begin with."""

    def identity(self) -> Any:
        return ["over_base", self.base.identity(), self.source.identity(), self.only]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset()

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        return weight

    def supplied(self, part: str, parameter: str) -> Tensor | None:
        from ..files.tensors import TensorReader

        base = reader_of(self.base, part)
        if not parameter.startswith(self.only) or not base.has(parameter):
            return None
        weight = base.read(parameter)
        header = _header(self.source.path)
        up, down = (self._key(parameter, end) for end in (".up", ".down"))
        if up not in header.tensors:
            return weight
        with TensorReader(header) as reader:
            change = reader.get(up).float().flatten(1) @ reader.get(down).float().flatten(1)
        if change.numel() != weight.numel():
            raise GraphFlowError(
                [
                    Problem(
                        "wrong_control",
                        f"{Path(self.source.path).name}: {up!r} changes a weight of "
                        f"{' x '.join(map(str, change.shape))}, the model's is {' x '.join(map(str, weight.shape))}",
                        hint="use the Control-LoRA with the kind of model that it was made of (SDXL)",
                    )
                ]
            )
        return weight + change.reshape(weight.shape)

    def check_used(self, part: str, parameters: Iterable[str]) -> None:
        keys = {self._key(parameter, ".up") for parameter in parameters if parameter.endswith(".weight")}
        left = [name for name in _header(self.source.path).tensors if name.endswith(".up") and name not in keys]
        if left:
            raise GraphFlowError(
                [
                    Problem(
                        "wrong_control",
                        f"{Path(self.source.path).name}: the model has no weights for {len(left)} of its changes, "
                        f"{left[0]!r} for one",
                        hint="use the Control-LoRA with the kind of model that it was made of (SDXL)",
                    )
                ]
            )

    def _key(self, parameter: str, end: str) -> str:
        place = place_of(dict(self.table), parameter)
        return (place.key if place is not None else parameter).removesuffix(".weight") + end


@lru_cache(maxsize=4)
def _header(path: str) -> Any:
    return read_header(Path(path))
