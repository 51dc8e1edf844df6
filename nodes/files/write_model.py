"""Networks written back into one safetensors file, in the layout that checkpoints have: a tensor at a time.

Weights that no patch changes keep the number format of their file; changed ones are float32, so that what is loaded
again has the same bits in every number format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, BinaryIO

from graphflow import GraphFlowError, Problem

from ..model.family import part_config
from ..model.handles import WeightsHandle
from ..model.patch import WeightPatch
from .convert import TensorPlace, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .load import WeightReader

__all__ = ["TensorEntry", "entries_of", "write_safetensors"]

_KEPT = {"F16": 2, "BF16": 2, "F32": 4}
"""Number formats that stay as they are, and their bytes; of others the numbers are written as F32."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file to come."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]
    """Its numbers, float32."""


def entries_of(
    handle: WeightsHandle, part: str, layout: str | None = None, prefix: str | None = None
) -> list[TensorEntry]:
    """The tensors of a part of a handle with its patches; in the layout of checkpoints if none is stated.

    Raises a Problem where the family states no layout.
    """
    from .load import WeightReader

    described = handle.family.parts[part]
    layout, prefix = layout or described.saved[0], described.saved[1] if prefix is None else prefix
    if not layout:
        raise GraphFlowError(
            [
                Problem(
                    "not_saved",
                    f"{handle.family.title} cannot be saved yet",
                    hint="stable diffusion 1.x, 2.x and XL can",
                )
            ]
        )
    reader = WeightReader(handle, part)
    table = described.layouts[layout](part_config(handle.config, part))
    names = list(reader.shapes)
    touched = frozenset[str]().union(
        *(patch.touches(part, names) for patch in handle.patches if isinstance(patch, WeightPatch))
    )
    groups: dict[str, list[tuple[str, TensorPlace]]] = {}
    for name in names:
        place = place_of(table, name) or TensorPlace(name)
        groups.setdefault(place.key, []).append((name, place))
    found = []
    for key, members in groups.items():
        members.sort(key=lambda member: member[1].rows or (0, 0))
        stored = {reader.stored(name) for name, _ in members}
        is_kept = len(stored) == 1 and stored <= _KEPT.keys() and not any(name in touched for name, _ in members)
        shape = _shape([reader.shapes[name] for name, _ in members], members[0][1])
        found.append(
            TensorEntry(prefix + key, stored.pop() if is_kept else "F32", shape, partial(_made, reader, members, shape))
        )
    return found


def write_safetensors(file: BinaryIO, entries: Sequence[TensorEntry], metadata: Mapping[str, str]) -> None:
    """The whole file; only one tensor is in memory at a time."""
    import torch

    formats = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for entry in entries:
        end = at + prod(entry.shape) * _KEPT[entry.dtype]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for entry in entries:
        tensor = entry.make().to(formats[entry.dtype]).contiguous()
        file.write(tensor.flatten().view(torch.uint8).numpy().tobytes())


def _shape(shapes: list[tuple[int, ...]], place: TensorPlace) -> tuple[int, ...]:
    """Of the tensor in the file."""
    shape = (sum(one[0] for one in shapes), *shapes[0][1:]) if place.rows is not None else shapes[0]
    if place.form == "transposed":
        return shape[::-1]
    return (*shape, 1, 1) if place.form == "flat" and len(shape) == 2 else shape


def _made(reader: WeightReader, members: list[tuple[str, TensorPlace]], shape: tuple[int, ...]) -> Tensor:
    import torch

    parts = [reader.read(name) for name, _ in members]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    if members[0][1].form == "transposed":
        whole = whole.T
    return whole.reshape(shape)
