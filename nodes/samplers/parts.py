"""The parts of a question: one batch of one side's conditioning in its region, and the answers of all parts joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..model.entry import Ask, Control, Entry
from ..model.handles import ControlNet, Model, WeightsHandle
from ..model.opaque_control import OpaqueControl
from ..model.row import Row
from .guidance import Side
from .regions import Region

__all__ = ["Controlled", "NetworkRows", "OpaqueControlled", "SidePart", "covers", "joined"]


@dataclass(eq=False, slots=True)
class SidePart:
    """One batch of a side's conditioning, on all latents."""

    side: Side
    model: Model
    entries: list[Entry]
    """One for each latent; one for all of them where they are the frames of one video."""
    region: Region
    prepared: list[Any]
    is_default: bool
    window: tuple[float, float]
    """The highest and the lowest level at which it acts."""
    controls: list[Controlled]
    within: list[Controlled]
    """Those that act within the network of the model."""
    opaque: list[OpaqueControlled]


@dataclass(eq=False, slots=True)
class OpaqueControlled:
    """Code of others, with the networks of ours that it asks."""

    control: OpaqueControl
    window: tuple[float, float]
    asked: dict[Any, Controlled] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Controlled:
    control: Control
    entries: list[Entry]
    prepared: list[Any]
    window: tuple[float, float]


@dataclass(eq=False, slots=True)
class NetworkRows:
    """The rows of one part for one network."""

    handle: WeightsHandle
    network: str
    level: float
    asks: list[Ask] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    within: tuple[ControlNet, ...] = ()
    """The networks that act within it."""


def joined(parts: Sequence[tuple[SidePart, Tensor]], x: Tensor) -> Tensor:
    """The sum of the parts' clean latents times their weights, divided by the sum of the weights; 0 where none acts."""
    if len(parts) == 1 and covers(parts[0][0], x):
        return parts[0][1]
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for part, x0 in parts:
        if not part.is_default:
            _add(total, weights, part, x0, _weight(part.region, x))
    free = (1.0 - weights).clamp(min=0.0)
    for part, x0 in parts:
        if part.is_default:
            _add(total, weights, part, x0, _weight(part.region, x) * part.region.cut(free))
    return torch.where(weights > 0, total / weights.clamp(min=torch.finfo(x.dtype).tiny), 0.0)


def covers(part: SidePart, x: Tensor) -> bool:
    where = part.region
    return not isinstance(where.weight, Tensor) and where.weight > 0 and (where.height, where.width) == x.shape[-2:]


def _weight(where: Region, x: Tensor) -> Tensor:
    """[1 or B, 1, (1,) h, w]"""
    if not isinstance(where.weight, Tensor):
        return x.new_full((), where.weight)
    return where.weight.view(len(where.weight), *(1,) * (x.dim() - 3), *where.weight.shape[-2:])


def _add(total: Tensor, weights: Tensor, part: SidePart, x0: Tensor, weight: Tensor) -> None:
    part.region.cut(total).add_(x0 * weight)
    part.region.cut(weights).add_(weight)
