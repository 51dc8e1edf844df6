"""The questions of a guider about a latent, as rows: the parts of its sides' conditionings, their controls, and the
answers.

A part is one batch of one side's conditioning in its region of the latents. Nothing here knows a family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..devices.passes import Seat
from ..devices.use import Device
from ..model.conditioning import Batch
from ..model.entry import Ask, Control, Entry
from ..model.handles import ControlNet, Model
from ..model.hook import Hook
from ..model.opaque_control import OpaqueControl
from ..model.pair import Pair
from .controlling import acts, acts_within, both_sided, carried, controlled, window_of
from .guidance import NEGATIVE, ControlPatch, Guider, MaskPatch, Side, all_sides
from .keyframes import factor_at
from .network_calls import NetworkCalls, comes_in_pairs
from .not_finite import not_finite
from .opaque import marked, opaque_calls
from .pairs import pair
from .parts import NetworkRows, SidePart, covers, joined
from .regions import Region, mirrored, region
from .residuals import begun, residuals_of
from .row_terms import RowTerms, terms_of
from .within import carrying
from .wrapped_calls import wrapped_groups, x0_of_wrapped

__all__ = ["INSIDE", "Questions"]

INSIDE = "inside."
"""The prefix of the names of answers of patches of calls."""


class Questions:
    """The questions of a guider about latents of one shape; entries are prepared once."""

    def __init__(self, device: Device, guider: Guider, x: Tensor, sigmas: Tensor, pair: Pair | None = None) -> None:
        self.device, self.guider, self.pair = device, guider, pair
        self._shape = x.shape
        self._levels = sorted({float(level) for level in sigmas}, reverse=True)
        self._parts: dict[tuple[str, int, Model], SidePart] = {}
        self._mirrored: dict[Any, tuple[Batch, ...]] = {}
        self._times: dict[tuple[Any, float], float] = {}
        self._terms: dict[tuple[Model, str], RowTerms | None] = {}
        self._under_hooks: dict[tuple[Model, Hook, float], Model] = {}
        self.calls = NetworkCalls(device, tuple(self._levels))
        self.made: Tensor | None = None
        """[1 or B, 1, 1 or frames, h, w], 1 where latents are made: a noise mask that the network sees."""
        self._rows_made = 0
        """Rows that code of others sees have numbers."""

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise levels of the run, falling."""
        return tuple(self._levels)

    def next_level(self, level: float) -> float:
        return next((other for other in self._levels if other < level), 0.0)

    def levels_from(self, level: float) -> int:
        """How many levels are still to be asked about, this one included."""
        return sum(0.0 < other <= level for other in self._levels)

    def mask(self, mask: Tensor, level: float) -> Tensor:
        """A noise mask at a level, under the patches of the guider's model."""
        model = self.guider.model
        for patch in model.patches:
            if isinstance(patch, MaskPatch):
                mask = patch.mask(mask, model, level, first=self._levels[0], last=self._levels[-1])
        return mask

    def rows_at_once(self, x: Tensor, level: float) -> int:
        """How many rows of the first question can share a pass."""
        sigma = torch.tensor(level)
        alike: dict[Any, int] = {}
        with torch.inference_mode():
            for part in self._active(level)[1]:
                asked = self._rows(part, x, sigma, level, self.next_level(level), {}, {})
                for row in asked.rows:
                    shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in row.stacked.items())
                    key = (asked.handle.weights_key(asked.network), shapes, tuple(row.ragged), row.common)
                    alike[key] = alike.get(key, 0) + 1
        return max(alike.values(), default=1)

    def cells(self, x: Tensor) -> tuple[int, ...]:
        """The axes of what one row asks about, without channels; of a video with sound those of the video."""
        if self.pair is not None:
            return self.pair.video[1:]
        is_video = self.guider.model.latent.frames_are_batch
        return (len(x), *x.shape[2:]) if is_video else tuple(x.shape[2:])

    @property
    def can_be_split(self) -> bool:
        """Whether the rows of a question may be computed apart: not where they mix, or code of others sees them."""
        models = [side.model for side in self.sides(self._levels[0])]
        return all(model.family.shares and not opaque_calls(model) for model in models)

    def sides(self, level: float) -> tuple[Side, ...]:
        """The questions at a noise level."""
        return all_sides(self.guider, level)

    def ask(
        self, seat: Seat, x: Tensor, sigma: Tensor, level: float, to: float, sides: Sequence[Side] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Mapping[str, Tensor]]]:
        """The clean latent of each side, and what patches of calls found inside its network. By default all sides."""
        if x.shape != self._shape:  # a method that enlarges the latent on its way
            self._shape = x.shape
            self._parts.clear()
            self._mirrored.clear()
        sides, parts = self._active(level, sides)
        plain = [part for part in parts if not any(patch.wraps for patch in opaque_calls(part.model))]
        found = dict(zip(map(id, plain), self._x0_of(seat, plain, x, sigma, level, to), strict=True))
        for group in wrapped_groups(part for part in parts if id(part) not in found):
            x0s_of_group = x0_of_wrapped(self, seat, group, x, sigma, level, to)
            found |= zip(map(id, group), ((x0, [{}]) for x0 in x0s_of_group), strict=True)
        x0s, answers = [found[id(part)][0] for part in parts], [found[id(part)][1] for part in parts]
        x0_of_sides = {
            side.name: joined(
                [(part, x0) for part, x0 in zip(parts, x0s, strict=True) if part.side.name == side.name], x
            )
            for side in sides
        }
        inside: dict[str, Mapping[str, Tensor]] = {}
        for part, rows in zip(parts, answers, strict=True):
            names = [name for name in rows[0] if name.startswith(INSIDE)]
            if names and part.side.name not in inside and covers(part, x):
                inside[part.side.name] = {
                    name.removeprefix(INSIDE): torch.stack([one[name] for one in rows]) for name in names
                }
        return x0_of_sides, inside

    def _x0_of(
        self, seat: Seat, parts: Sequence[SidePart], x: Tensor, sigma: Tensor, level: float, to: float
    ) -> list[tuple[Tensor, list[dict[str, Tensor]]]]:
        """The clean latents of each part, in its region, and the network's answers."""
        scaled: dict[Any, Tensor] = {}
        residuals = [self.residuals(seat, part, x, sigma, level, to, scaled) for part in parts]
        asked = [
            self._rows(part, x, sigma, level, to, scaled, dict(enumerate(found)))
            for part, found in zip(parts, residuals, strict=True)
        ]
        answers = self.calls.answers(seat, asked)
        return [
            (self._clean(part, one, found, x, sigma), found)
            for part, one, found in zip(parts, asked, answers, strict=True)
        ]

    def not_a_number(self, level: float) -> GraphFlowError:
        model = self.guider.model
        dtype = self.device.number_format(model, model.family.part(model.config, level))
        return GraphFlowError([not_finite(model, level, dtype)])

    def _active(self, level: float, asked: Sequence[Side] | None = None) -> tuple[Sequence[Side], list[SidePart]]:
        """The sides of a level, or those that are asked in a second round, and their parts that act at it."""
        sides = self.sides(level)
        asked = sides if asked is None else asked
        parts = [self._part(side, batch, sides) for side in asked for batch in self._batches(side, sides)]
        return asked, [part for part in parts if acts(part.window, level)]

    def _batches(self, side: Side, sides: Sequence[Side]) -> tuple[Batch, ...]:
        """Those of a side, and those that it gets because another side has areas."""
        key = (side.name, tuple(map(id, side.batches)), tuple(id(batch) for one in sides for batch in one.batches))
        if key not in self._mirrored:
            others = [batch for other in sides if other.name != side.name for batch in other.batches]
            latent = side.model.latent
            added = mirrored(
                side.batches, others, self._shape[0], *self._shape[-2:], multiple=latent.multiple, factor=latent.factor
            )
            self._mirrored[key] = (*side.batches, *added)
        return self._mirrored[key]

    def _part(self, side: Side, batch: Batch, sides: Sequence[Side]) -> SidePart:
        key = (side.name, id(batch), side.model)
        if key not in self._parts:
            self._parts[key] = self._new_part(side, batch, both_sided(sides) if _is_negative(side) else ((), ()))
        return self._parts[key]

    def time(self, model: Model, level: float) -> float:
        key = (model.prediction, level)
        if key not in self._times:
            self._times[key] = float(model.prediction.time(torch.tensor(level)))
        return self._times[key]

    def _terms_of(self, model: Model, network: str) -> RowTerms | None:
        key = (model, network)
        if key not in self._terms:
            found = terms_of(model, network)
            if found is not None:
                found = found.to(self.device.device, self.device.number_format(model, network))
            self._terms[key] = found
        return self._terms[key]

    def _new_part(
        self, side: Side, batch: Batch, inherited: tuple[tuple[Control, ...], tuple[OpaqueControl, ...]]
    ) -> SidePart:
        count, family = self._shape[0], side.model.family
        if _is_negative(side):
            batch = tuple(_on_negative(entry, *inherited) for entry in batch)
        if self.pair is not None:
            batch = tuple(replace(entry, pair=self.pair) for entry in batch)
        height, width = self._shape[-2:]
        latent = side.model.latent
        where = region(batch, count, height, width, multiple=latent.multiple, factor=latent.factor)
        if isinstance(where.weight, Tensor):
            where = replace(where, weight=where.weight.to(self.device.device))
        is_video = latent.frames_are_batch
        entries = [batch[0]] if is_video else [batch[index % len(batch)] for index in range(count)]
        shape = (*self._shape[0 if is_video else 1 : -2], where.height, where.width)
        made: dict[int, Any] = {}
        for entry in entries:
            if id(entry) not in made:
                made[id(entry)] = family.net.prepare(side.model.config, entry, shape)
        window = window_of(batch[0].window, side.model)
        steering = [patch.control for patch in side.model.patches if isinstance(patch, ControlPatch)]
        controls = [
            controlled(self.device, control, entries, shape, side.model) for control in (*batch[0].controls, *steering)
        ]
        return SidePart(
            side,
            side.model,
            entries,
            where,
            [made[id(entry)] for entry in entries],
            batch[0].is_default,
            window,
            [one for one in controls if not acts_within(one)],
            [one for one in controls if acts_within(one)],
            [begun(control, side.model) for control in batch[0].opaque_controls],
        )

    def hooked(self, part: SidePart, level: float) -> Model:
        """The model of a part under the hooks of its conditioning at a noise level."""
        model, hooks = part.model, part.entries[0].hooks
        for hook in hooks:
            factor = factor_at(hook.keyframes, model.prediction, level, self._levels)
            key = (model, hook, factor)
            if key not in self._under_hooks:
                self._under_hooks[key] = hook.on(model, factor)
            model = self._under_hooks[key]
        return model

    def _rows(
        self,
        part: SidePart,
        x: Tensor,
        sigma: Tensor,
        level: float,
        to: float,
        scaled: dict[Any, Tensor],
        residuals: Mapping[int, Mapping[str, Tensor]],
    ) -> NetworkRows:
        model = self.hooked(part, level)
        within = [one for one in part.within if acts(one.window, level)]
        networks = tuple(cast(ControlNet, one.control.model) for one in within)
        asked = NetworkRows(model, model.family.part(model.config, level), level, within=networks)
        seen = _scaled(scaled, part.region, model, x, sigma)
        seen = seen[None] if model.latent.frames_are_batch else seen
        time = self.time(model, level)
        for index, (entry, prepared) in enumerate(zip(part.entries, part.prepared, strict=True)):
            ask = Ask(seen[index], level, to, time, entry, residuals.get(index, {}), self._made(part, index))
            self.add_row(asked, ask, prepared, part.side, carried(within, ask, index))
        if comes_in_pairs(model):
            other = self._rows(self._opposite(part, level), x, sigma, level, to, scaled, residuals)
            asked.rows = [pair(one, beside) for one, beside in zip(asked.rows, other.rows, strict=True)]
        return asked

    def _made(self, part: SidePart, index: int) -> Tensor | None:
        """The noise mask of a latent in the region of a part, for a network that sees it."""
        return None if self.made is None else part.region.cut(self.made[index % len(self.made)])

    def _opposite(self, part: SidePart, level: float) -> SidePart:
        """The part of the negative side that acts where another part does."""
        _, parts = self._active(level)
        found = [one for one in parts if one.side.name == NEGATIVE and one.region.place == part.region.place]
        if len(found) != 1:
            raise GraphFlowError(
                [
                    Problem(
                        "no_negative",
                        f"NAGuidance compares each prompt with one negative, and {len(found) or 'none'} acts where "
                        "the prompt does",
                        hint="use one negative for the whole image and the whole sampling",
                    )
                ]
            )
        return found[0]

    def add_row(
        self, asked: NetworkRows, ask: Ask, prepared: Any, side: Side, seen: Iterable[Mapping[str, Tensor]] = ()
    ) -> None:
        """The question as one more row for the network; `seen` is for the networks that act within it."""
        model = cast(Model, asked.handle)
        row = model.family.net.row(model.config, ask, prepared)
        terms = self._terms_of(model, asked.network)
        row = row if terms is None else terms.on(row)
        if opaque_calls(model):
            row = marked(row, self._rows_made, side)
            self._rows_made += 1
        if given := list(seen):
            row = carrying(row, given)
        asked.asks.append(ask)
        asked.rows.append(row)

    def residuals(
        self, seat: Seat, part: SidePart, x: Tensor, sigma: Tensor, level: float, to: float, scaled: dict[Any, Tensor]
    ) -> list[dict[str, Tensor]]:
        """The residuals that the controls of a part add inside the network, for each latent: answers times strength, in
        order."""
        windows = (*(one.window for one in part.controls), *(one.window for one in part.opaque))
        if not any(acts(window, level) for window in windows):
            return [{} for _ in part.entries]
        seen = _scaled(scaled, part.region, part.model, x, sigma)
        return residuals_of(self, seat, part, part.region.cut(x), seen, level, to)

    @staticmethod
    def _clean(
        part: SidePart, asked: NetworkRows, answers: list[dict[str, Tensor]], x: Tensor, sigma: Tensor
    ) -> Tensor:
        """The clean latents of a part, in its region."""
        model = part.model
        outs = [
            model.family.net.back(model.config, ask, answer) for ask, answer in zip(asked.asks, answers, strict=True)
        ]
        whole = outs[0] if model.latent.frames_are_batch else torch.stack(outs)
        return model.prediction.x0(part.region.cut(x), sigma, whole.float())


def _on_negative(entry: Entry, controls: tuple[Control, ...], opaque: tuple[OpaqueControl, ...]) -> Entry:
    """An entry of the negative side: it gets the controls of both sides where it has none of its own."""
    if entry.controls or entry.opaque_controls:
        return replace(entry, negative=True)
    return replace(entry, negative=True, controls=controls, opaque_controls=opaque)


def _is_negative(side: Side) -> bool:
    return side.name == NEGATIVE or side.is_negative


def _scaled(kept: dict[Any, Tensor], where: Region, model: Model, x: Tensor, sigma: Tensor) -> Tensor:
    """x in a region as the network takes it; sides of one region share it."""
    key = (where.place, model.prediction)
    if key not in kept:
        kept[key] = model.prediction.scale_in(where.cut(x), sigma)
    return kept[key]
