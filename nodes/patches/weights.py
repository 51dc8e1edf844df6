"""Patches of weights that are merged as they are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..model.handles import ModelHandle
from ..model.patch import WeightPatch

if TYPE_CHECKING:
    from torch import Tensor

    from ..files.load import WeightReader

__all__ = ["Mix", "PlusBase", "check_alike"]


@dataclass(frozen=True)
class Mix(WeightPatch):
    r"""A weighted sum with the weights of another model of the same shapes.

    .. math:: W' = a \, W + b \, W_{other}

    Read from the other's file, with the other's own patches, in float32.
    """

    other: ModelHandle
    own_share: float
    other_share: float

    def identity(self) -> Any:
        return ["mix", self.other.identity(), self.own_share, self.other_share]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        has_part = any(name == part for name, _ in self.other.sources)
        return frozenset(parameters) if has_part else frozenset()

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        return self.own_share * weight + self.other_share * _reader(self.other, part).read(parameter)


@dataclass(frozen=True)
class PlusBase(WeightPatch):
    """The weights of a model are added where a network has weights of the same names, as a ControlNet has those of its U-Net.

    Read from the model's file, with its own patches, in float32.
    """

    base: ModelHandle

    def identity(self) -> Any:
        return ["plus_base", self.base.identity()]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset(name for name in parameters if _reader(self.base, part).has(name))

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        return weight + _reader(self.base, part).read(parameter)


def check_alike(one: ModelHandle, other: ModelHandle, input: str) -> None:
    """Raises a Problem where two models cannot be mixed: of unlike families or shapes."""
    if one.family is not other.family or one.config.get("denoiser") != other.config.get("denoiser"):
        both = {one.family.title, other.family.title}
        what = (
            " and ".join(sorted(both)) if len(both) > 1 else f"two variants of {one.family.title} with unlike networks"
        )
        raise GraphFlowError([
            Problem("unlike_models", f"{what} cannot be mixed", input=input,
                    hint="use two models of one family and variant (not a base and an inpainting model)")
        ])  # fmt: skip


@lru_cache(maxsize=4)
def _reader(handle: ModelHandle, part: str) -> WeightReader:
    from ..files.load import WeightReader

    return WeightReader(handle, part)
