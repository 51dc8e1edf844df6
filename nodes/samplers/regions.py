"""Where an entry of a conditioning acts on a latent, and how strongly: areas with fading edges, masks, strengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from graphflow import GraphFlowError, Problem

from ..model.entry import Entry

__all__ = ["Region", "mirrored", "region", "spread"]

AREA_CELL = 8
"""Pixels of one cell of an `area`, whatever the model: the nodes that set areas do not know it."""
LEAST = 8
"""Cells of a side of the bounding box of a mask, at least."""
FADE = 8
"""Cells over which an edge fades, at most; at most a quarter of the side."""


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of a latent, on its last two axes."""

    top: int
    left: int
    height: int
    width: int
    weight: Tensor | float
    """A number, or float32 [1 or B, height, width]: how much the answer there counts."""

    def cut(self, x: Tensor) -> Tensor:
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    @property
    def place(self) -> tuple[int, int, int, int]:
        return self.top, self.left, self.height, self.width


def region(
    batch: Sequence[Entry], count: int, height: int, width: int, *, multiple: int = 1, factor: int = AREA_CELL
) -> Region:
    """Of the entries of one batch (which have areas and masks in common) on `count` latents of height x width cells.

    An area is cut to the latent. Its edges that are not edges of the latent fade: 1/n, 2/n ... over
    n = min(8, side // 4) cells. A mask has no fading. A model takes places and sides that are a `multiple` of cells:
    the region is the smallest one of these around the area, and what lies outside of the area counts 0. `factor` is
    the number of pixels of one cell of the latent, along a side. Raises a Problem for an area without a cell in the
    latent, and for masks whose number does not fit that of the latents.
    """
    entry = batch[0]
    strength = float(entry.strength)
    mask = None
    if entry.mask is not None:
        mask = spread(entry.mask, count, "masks")
        mask = F.interpolate(mask.float()[:, None], (height, width), mode="bilinear")[:, 0] * entry.mask_strength
    if entry.area is not None:
        place = _cells(entry.area, height, width, factor)
    elif mask is not None and entry.mask_bounds:
        place = _bounds(mask)
    else:
        return Region(0, 0, height, width, strength if mask is None else mask * strength)
    around = top, left, rows, columns = _on_grid(place, multiple)
    if mask is not None:
        weight = mask[:, top : top + rows, left : left + columns] * strength
    else:
        weight = _faded(place, height, width)[None] * strength
    if around == place:
        return Region(*around, weight)
    inner = slice(place[0] - top, place[0] - top + place[2]), slice(place[1] - left, place[1] - left + place[3])
    counted = torch.zeros(len(weight), rows, columns)
    counted[:, *inner] = weight if mask is None else weight[:, *inner]
    return Region(*around, counted)


def mirrored(
    own: Sequence[Sequence[Entry]],
    others: Sequence[Sequence[Entry]],
    count: int,
    height: int,
    width: int,
    *,
    multiple: int = 1,
    factor: int = AREA_CELL,
) -> list[tuple[Entry, ...]]:
    """The entries to add to the batches of a side so that it is asked in each area of the other sides.

    A model answers otherwise about a part of a latent than about the whole, and guidance compares its answers. So in
    each area of another side that is not one of its own, the own batch with the smallest area around it is asked as
    well; it counts there as strongly as the other does.
    """

    def place(batch: Sequence[Entry]) -> tuple[int, int, int, int]:
        return region(batch, count, height, width, multiple=multiple, factor=factor).place

    areas = [(place(batch), batch) for batch in own]
    added: list[tuple[Entry, ...]] = []
    for other in others:
        if other[0].area is None and not other[0].mask_bounds:
            continue
        wanted = place(other)
        around = [one for one in areas if _covers(one[0], wanted)]
        if not around:
            continue
        smallest, batch = min(around, key=lambda one: one[0][2] * one[0][3])
        if smallest == wanted and (batch[0].area is not None or batch[0].mask_bounds):
            continue
        made = tuple(_acting_as(entry, other[0]) for entry in batch)
        areas.append((wanted, made))
        added.append(made)
    return added


def _acting_as(entry: Entry, other: Entry) -> Entry:
    """An entry where, when and as strongly as another one acts."""
    return replace(
        entry,
        area=other.area,
        strength=other.strength,
        mask=other.mask,
        mask_strength=other.mask_strength,
        mask_bounds=other.mask_bounds,
        window=other.window,
    )


def _covers(outer: tuple[int, int, int, int], inner: tuple[int, int, int, int]) -> bool:
    return all(
        outer[axis] <= inner[axis] and outer[axis] + outer[axis + 2] >= inner[axis] + inner[axis + 2] for axis in (0, 1)
    )


def spread(items: Tensor, count: int, what: str) -> Tensor:
    """[N, ...] -> [1 or count, ...]: one for all, one each, or repeated where the number divides `count`."""
    if len(items) == 1 or len(items) == count:
        return items
    if len(items) > count:
        return items[:count]
    if count % len(items):
        raise GraphFlowError(
            [
                Problem(
                    "uneven_batch",
                    f"{len(items)} {what} cannot be spread over {count} latents",
                    hint=f"use one, or {count}",
                )
            ]
        )
    return items.repeat(count // len(items), *(1,) * (items.dim() - 1))


def _cells(area: Sequence[int | float | str], height: int, width: int, factor: int) -> tuple[int, int, int, int]:
    """(top, left, rows, columns), cut to the latent. Raises a Problem where nothing of it is in the latent."""
    if area[0] == "percentage":
        high, wide, y, x = (float(share) for share in area[1:5])
        rows, columns = max(1, round(high * height)), max(1, round(wide * width))
        top = min(round(y * height), height - 1) if y < 1 else height
        left = min(round(x * width), width - 1) if x < 1 else width
    else:
        rows, columns, top, left = (int(side) * AREA_CELL // factor for side in area[:4])
    first, last = (max(top, 0), max(left, 0)), (min(top + rows, height), min(left + columns, width))
    if last[0] <= first[0] or last[1] <= first[1]:
        found = f"an area of {columns} x {rows} cells that begins at cell {left}, {top}"
        message = f"{found} has no cell within the {width} x {height} cells of the latent"
        raise GraphFlowError([Problem("empty_region", message, hint="move the area into the image, or enlarge it")])
    return *first, last[0] - first[0], last[1] - first[1]


def _on_grid(place: tuple[int, int, int, int], multiple: int) -> tuple[int, int, int, int]:
    """The smallest place around it whose sides and whose corner are multiples."""
    top, left = (start // multiple * multiple for start in place[:2])
    ends = (-(-(start + side) // multiple) * multiple for start, side in zip(place[:2], place[2:], strict=True))
    bottom, right = ends
    return top, left, bottom - top, right - left


def _bounds(mask: Tensor) -> tuple[int, int, int, int]:
    """The box around all that is not 0, moved and widened to at least 8 cells a side."""
    height, width = mask.shape[-2:]
    seen = mask.abs().amax(0) > 0
    sides = []
    for along, size in ((seen.any(1), height), (seen.any(0), width)):
        found = along.nonzero()[:, 0]
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
        length = min(max(last - first + 1, LEAST), size)
        sides.append((min(first, size - length), length))
    (top, rows), (left, columns) = sides
    return top, left, rows, columns


def _faded(place: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    top, left, rows, columns = place
    weight = torch.ones(rows, columns)
    for axis, start, size, whole in ((0, top, rows, height), (1, left, columns, width)):
        fade = min(FADE, size // 4)
        ramp = torch.arange(1, fade + 1) / max(fade, 1)
        edge = torch.ones(size)
        if start > 0:
            edge[:fade] *= ramp
        if start + size < whole:
            edge[size - fade :] *= ramp.flip(0)
        weight *= edge[:, None] if axis == 0 else edge[None]
    return weight
