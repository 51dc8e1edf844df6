r"""Weights that packs change (`add_patches`), as a patch of weights: merged by the pool in float32, in order.

.. math:: W' = m W + s \Delta

A weight is named as in a checkpoint: `diffusion_model.input_blocks.1.1.proj_in.weight` of a MODEL,
`clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight` of a CLIP. :math:`\Delta` is a tensor of its shape, low
rank (up, down, alpha), or a weight of another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..files.convert import TensorPlace, place_of
from ..files.load import WeightReader, build
from ..model.config import Config
from ..model.family import Family, part_config
from ..model.handles import Model, WeightsHandle
from ..model.patch import WeightPatch
from .changes import key_of_change

__all__ = ["Added", "ForeignWeights", "StoredWeight", "fitting", "key_patches", "size_of", "with_weights"]

DENOISER = "denoiser"
_ENCODERS = {"t5": "t5xxl"}


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """One call of `add_patches`."""

    patches: Mapping[str, Any]
    strength_patch: float
    strength_model: float


@dataclass(frozen=True, eq=False)
class ForeignWeights(WeightPatch):
    """All that the call of a pack's node has added, known by that call."""

    added: tuple[Added, ...] = field(repr=False)
    places: Mapping[tuple[str, str], TensorPlace] = field(repr=False)
    """(part, parameter) -> its place in a checkpoint."""
    key: str
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def identity(self) -> Any:
        return ["foreign", "weights", self.key]

    def touches(self, part: str, parameters: Iterable[str]) -> frozenset[str]:
        names = {name for one in self.added for name in one.patches}
        found = ((name, self.places.get((part, name))) for name in parameters)
        return frozenset(name for name, place in found if place is not None and place.key in names)

    def apply(self, part: str, parameter: str, weight: Tensor) -> Tensor:
        place = self.places[part, parameter]
        for one in self.added:
            if place.key in one.patches:
                weight = weight * one.strength_model if one.strength_model != 1.0 else weight
                value = one.patches[place.key]
                weight = _changed(value, weight, one.strength_patch, place, parameter)
        return weight


@dataclass(frozen=True, eq=False)
class StoredWeight(Sequence[Tensor]):
    """A weight of a handle under its name in a checkpoint: a list of one tensor, which is read when it is asked for."""

    handle: WeightsHandle
    parts: tuple[tuple[str, str, TensorPlace], ...]
    """(part, parameter, place), in the order of their rows in the checkpoint's tensor."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        if index not in (0, -1):
            raise IndexError(index)
        rows = []
        for part, parameter, place in self.parts:
            weight = _reader(self.handle, part).read(parameter)
            rows.append(weight.T if place.form == "transposed" else weight)
        return torch.cat(rows) if len(rows) > 1 else rows[0]

    def of(self, parameter: str) -> Tensor | None:
        """The weight of one parameter in the network's own form."""
        part = next((part for part, name, _ in self.parts if name == parameter), None)
        return None if part is None else _reader(self.handle, part).read(parameter)


def fitting(handle: WeightsHandle, patches: Mapping[Any, Any]) -> dict[str, Any]:
    """Those of the patches whose names are the handle's. Raises a Problem for a part of a weight."""
    known = {place.key for place in _places(handle).values()}
    found = {}
    for name, value in patches.items():
        if isinstance(name, tuple):
            raise _refused(f"add_patches was given a part of {name[0]!r}, which is not open to packs")
        key = str(name).removeprefix("model.")
        if key in known:
            found[key] = value
    return found


def with_weights(handle: Any, added: Sequence[Added]) -> Any:
    """The handle with these changes to its weights."""
    return handle.with_patch(ForeignWeights(tuple(added), _places(handle), key_of_change()))


def key_patches(handle: WeightsHandle, prefix: str | None) -> dict[str, StoredWeight]:
    """Name in a checkpoint -> its weight, for those whose names begin with `prefix`."""
    found: dict[str, list[tuple[str, str, TensorPlace]]] = {}
    for (part, parameter), place in _places(handle).items():
        if prefix is None or place.key.startswith(prefix):
            found.setdefault(place.key, []).append((part, parameter, place))
    return {
        key: StoredWeight(handle, tuple(sorted(parts, key=lambda one: one[2].rows or (0, 0))))
        for key, parts in found.items()
    }


def size_of(handle: WeightsHandle) -> int:
    """Bytes in float32."""
    return sum(
        4 * weight.numel()
        for part, _ in handle.sources
        if part in handle.family.parts
        for weight in build(handle.family.parts[part], handle.config, part).parameters()
    )


def _changed(value: Any, weight: Tensor, strength: float, place: TensorPlace, parameter: str) -> Tensor:
    if isinstance(value, StoredWeight):
        other = value.of(parameter)
        if other is None or other.shape != weight.shape:
            raise _refused(f"the weight of another model for {place.key} has another shape")
        return weight + strength * other
    kind, numbers = _read(value, place.key)
    if kind == "set":
        return _in_place(numbers[0].float(), weight, place).to(weight)
    difference = numbers[0].float() if kind == "diff" else _low_rank(numbers)
    return weight + strength * _in_place(difference, weight, place).to(weight)


def _read(value: Any, key: str) -> tuple[str, Sequence[Any]]:
    """(kind, its numbers) of `(tensor,)`, `("diff", (tensor,))`, `("lora", (up, down, alpha, mid, scale))`, or an
    object with `name` and `weights`."""
    if hasattr(value, "weights") and hasattr(value, "name"):
        value = (value.name, value.weights)
    if isinstance(value, Tensor):
        return "diff", (value,)
    if isinstance(value, (tuple, list)) and len(value) == 1:
        return "diff", (value[0][0] if isinstance(value[0], (tuple, list)) else value[0],)
    kind, numbers = value[0], value[1] if isinstance(value, (tuple, list)) and len(value) == 2 else ()
    if kind in ("diff", "set") and numbers:
        return kind, numbers
    if kind == "lora" and len(numbers) >= 2 and all(one is None for one in numbers[3:]):
        return kind, numbers
    raise _refused(
        f"add_patches was given {kind!r} for {key}; known are differences, weights, and low rank without more"
    )


def _low_rank(numbers: Sequence[Any]) -> Tensor:
    up: Tensor = numbers[0].float()
    down: Tensor = numbers[1].float()
    alpha = numbers[2] if len(numbers) > 2 else None
    found = up.flatten(1) @ down.flatten(1)
    found = found.reshape(up.shape[0], *down.shape[1:])
    return found if alpha is None else found * (float(alpha) / down.shape[0])


def _in_place(difference: Tensor, weight: Tensor, place: TensorPlace) -> Tensor:
    """What of a checkpoint's tensor belongs to a parameter, in its form."""
    if place.rows is not None:
        difference = difference[place.rows[0] : place.rows[1]]
    if place.form == "transposed":
        difference = difference.T
    if place.form == "swapped":
        difference = torch.cat(difference.chunk(2)[::-1])
    if difference.shape != weight.shape and difference.numel() == weight.numel():
        difference = difference.reshape(weight.shape)
    if difference.shape != weight.shape:
        raise _refused(f"the difference for {place.key} is {list(difference.shape)}, the weight {list(weight.shape)}")
    return difference


def _places(handle: WeightsHandle) -> Mapping[tuple[str, str], TensorPlace]:
    parts = tuple(part for part, _ in handle.sources if part == DENOISER or part.startswith("text."))
    return _places_of(handle.family, handle.config, parts if not isinstance(handle, Model) else (DENOISER,))


@lru_cache(maxsize=16)
def _places_of(family: Family, config: Config, parts: tuple[str, ...]) -> Mapping[tuple[str, str], TensorPlace]:
    found = {}
    for part in parts:
        described = family.parts[part]
        for begin, layout in _layouts(part, list(described.layouts), described.saved[0]):
            table = described.layouts[layout](part_config(config, part))
            for parameter in build(described, config, part).state_dict():
                place = place_of(table, parameter)
                if place is not None:
                    key = f"{begin}{place.key}"
                    found[part, parameter] = TensorPlace(key, place.rows, place.form, place.tied)
    return found


def _layouts(part: str, known: list[str], saved: str) -> Iterator[tuple[str, str]]:
    """(what names begin with, the layout that they are of)"""
    if part == DENOISER:
        yield (
            "diffusion_model.",
            next((one for one in ("ldm", saved, *known) if one in known and one != "diffusers"), known[0]),
        )
        return
    letter = part.removeprefix("text.")
    name = _ENCODERS.get(letter, f"clip_{letter}" if len(letter) == 1 else letter)
    yield f"{name}.transformer.", "transformers" if "transformers" in known else known[0]


@lru_cache(maxsize=4)
def _reader(handle: WeightsHandle, part: str) -> WeightReader:
    return WeightReader(handle, part)


def _refused(message: str) -> GraphFlowError:
    return GraphFlowError([Problem("foreign_weights", message, hint="leave the pack's node out; see docs/packs.md")])
