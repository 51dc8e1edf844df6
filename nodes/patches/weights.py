"""Patches of weights that are merged as they are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphflow import GraphFlowError, Problem

from ..files.convert import Table, place_of
from ..files.header import read_header
from ..model.config import Config
from ..model.family import Family, part_config
from ..model.handles import WeightsHandle
from ..model.patch import WeightPatch

if TYPE_CHECKING:
    from torch import Tensor

    from ..files.load import WeightReader

__all__ = [
    "MixByName",
    "ModelDifference",
    "Mix",
    "MixBlocks",
    "PlusBase",
    "check_alike",
    "check_blocks",
    "check_names",
    "reader_of",
]

DENOISER, LDM = "denoiser", "ldm"
ORIGINAL = (LDM, "bfl", "mmdit", "original", "diffusers")
"""Layouts of files, those of the authors first."""


@dataclass(frozen=True)
class Mix(WeightPatch):
    r"""A weighted sum with the weights of another model of the same shapes.

    .. math:: W' = a \, W + b \, W_{other}

    Read from the other's file, with the other's own patches, in float32.
    """

    other: WeightsHandle
    own_share: float
    other_share: float

    def identity(self) -> Any:
        return ["mix", self.other.identity(), self.own_share, self.other_share]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        has_part = any(name == part for name, _ in self.other.sources)
        return frozenset(parameters) if has_part else frozenset()

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        return self.own_share * weight + self.other_share * reader_of(self.other, part).read(parameter)


@dataclass(frozen=True)
class ModelDifference(WeightPatch):
    r"""What another model has more than a base.

    .. math:: W' = W + s \, (W_{other} - W_{base})
    """

    other: WeightsHandle
    base: WeightsHandle
    strength: float

    def identity(self) -> Any:
        return ["difference", self.other.identity(), self.base.identity(), self.strength]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        has_part = any(name == part for name, _ in self.other.sources)
        return frozenset(parameters) if has_part else frozenset()

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        other, base = (reader_of(handle, part).read(parameter) for handle in (self.other, self.base))
        return weight + self.strength * (other - base)


@dataclass(frozen=True)
class PlusBase(WeightPatch):
    """The weights of a model are added where a network has weights of the same names, as a ControlNet has those of its
    U-Net.

    Read from the model's file, with its own patches, in float32.
    """

    base: WeightsHandle

    def identity(self) -> Any:
        return ["plus_base", self.base.identity()]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset(name for name in parameters if reader_of(self.base, part).has(name))

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        return weight + reader_of(self.base, part).read(parameter)


@dataclass(frozen=True)
class MixBlocks(WeightPatch):
    r"""A weighted sum of two U-Nets, with a share of the first for each third of the network.

    .. math:: W' = a \, W + (1 - a) \, W_{other}

    a is `middle` or `out` for weights whose names in a checkpoint begin so (`middle_block`, `output_blocks`, `out.`),
    and `input` for all others.
    """

    other: WeightsHandle
    input: float
    middle: float
    out: float

    def identity(self) -> Any:
        return ["mix_blocks", self.other.identity(), self.input, self.middle, self.out]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset(parameters) if part == DENOISER else frozenset()

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        name = _name_in_checkpoints(self.other, parameter)
        share = self.middle if name.startswith("middle") else self.out if name.startswith("out") else self.input
        return share * weight + (1.0 - share) * reader_of(self.other, part).read(parameter)


@dataclass(frozen=True)
class MixByName(WeightPatch):
    r"""A weighted sum of two denoisers, with a share of the first by what a weight's name in a checkpoint begins with.

    .. math:: W' = a \, W + (1 - a) \, W_{other}

    The longest beginning that fits decides; weights that none fits have the first share.
    """

    other: WeightsHandle
    shares: tuple[tuple[str, float], ...]
    """Beginning of the name -> a."""

    def identity(self) -> Any:
        return ["mix_by_name", self.other.identity(), [list(one) for one in self.shares]]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        return frozenset(parameters) if part == DENOISER else frozenset()

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        name = _name_in_checkpoints(self.other, parameter)
        fitting = [one for one in self.shares if name.startswith(one[0])]
        _, share = max(fitting, key=lambda one: len(one[0]), default=self.shares[0])
        return share * weight + (1.0 - share) * reader_of(self.other, part).read(parameter)


def check_names(model: WeightsHandle, names: Iterable[str], input: str) -> None:
    """Raises a Problem where no weight of a model begins with the name of a block: it is of another family."""
    numbered = [name for name in names if any(part.isdigit() for part in name.split("."))]
    known = {place for place in _beginnings(model) if any(place.startswith(name) for name in numbered)}
    if not known:
        raise GraphFlowError(
            [
                Problem(
                    "unlike_models",
                    f"{model.family.title} has no blocks of these names ({', '.join(numbered[:2])} ...)",
                    input=input,
                    hint="use the merging node of this family, or ModelMergeSimple",
                )
            ]
        )


def check_blocks(model: WeightsHandle, input: str) -> None:
    """Raises a Problem where a model is not a U-Net, whose blocks go down, through a middle, and up."""
    if LDM not in model.family.parts[DENOISER].layouts:
        raise GraphFlowError(
            [
                Problem(
                    "not_a_unet",
                    f"{model.family.title} is not a U-Net: it has no input, middle and output blocks",
                    input=input,
                    hint="mix it with ModelMergeSimple",
                )
            ]
        )


def check_alike(one: WeightsHandle, other: WeightsHandle, input: str) -> None:
    """Raises a Problem where two models cannot be mixed: of unlike families or shapes."""
    if one.family is not other.family or _shapes(one) != _shapes(other):
        both = {one.family.title, other.family.title}
        what = (
            " and ".join(sorted(both)) if len(both) > 1 else f"two variants of {one.family.title} with unlike networks"
        )
        raise GraphFlowError(
            [
                Problem(
                    "unlike_models",
                    f"{what} cannot be mixed",
                    input=input,
                    hint="use two models of one family and variant (not a base and an inpainting model)",
                )
            ]
        )


def _shapes(handle: WeightsHandle) -> list[tuple[str, Config]]:
    """The configs of the networks that are mixed."""
    return [(part, part_config(handle.config, part)) for part, _ in sorted(handle.sources) if part in handle.config]


def _name_in_checkpoints(handle: WeightsHandle, parameter: str) -> str:
    place = place_of(_names_in_checkpoints(handle.family, handle.config), parameter)
    return place.key if place is not None else parameter


def _beginnings(handle: WeightsHandle) -> Iterable[str]:
    """Names of weights, or of modules, in the layout of the authors."""
    source = handle.source(DENOISER)
    table = _names_in_checkpoints(handle.family, handle.config)
    named = [place if isinstance(place, str) else place.key for place in table.values()]
    stored = read_header(Path(source.path)).tensors
    return [*(f"{name}." for name in named if name), *(name.removeprefix(source.prefix) for name in stored)]


@lru_cache(maxsize=8)
def _names_in_checkpoints(family: Family, config: Config) -> Table:
    layouts = family.parts[DENOISER].layouts
    known = next(name for name in (*ORIGINAL, *layouts) if name in layouts)
    return layouts[known](part_config(config, DENOISER))


@lru_cache(maxsize=4)
def reader_of(handle: WeightsHandle, part: str) -> WeightReader:
    """The weights of a part, one by one, with the handle's patches."""
    from ..files.load import WeightReader

    return WeightReader(handle, part)
