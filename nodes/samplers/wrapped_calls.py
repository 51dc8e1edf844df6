"""Code of others around the call of a network: it is handed noisy latents and what they are asked with, and asks the
network itself, once, several times or not at all.

Parts of one model whose latents and texts are of one shape are asked together, as ComfyUI does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..devices.passes import Seat
from ..model.entry import Ask, Entry
from ..model.handles import ControlNet, Model
from .controlling import acts, carried
from .guidance import Side
from .network_calls import NetworkCalls
from .opaque import OpaqueCall, PassRows, number_of, opaque_calls
from .parts import Controlled, NetworkRows, SidePart

__all__ = ["AskedInRows", "wrapped_groups", "x0_of_wrapped"]


class AskedInRows(Protocol):
    """The questions of a run, as far as they are asked here (see questions.py)."""

    calls: NetworkCalls

    @property
    def levels(self) -> tuple[float, ...]: ...

    def next_level(self, level: float) -> float: ...

    def time(self, model: Model, level: float) -> float: ...

    def hooked(self, part: SidePart, level: float) -> Model: ...

    def residuals(
        self, seat: Seat, part: SidePart, x: Tensor, sigma: Tensor, level: float, to: float, scaled: dict[Any, Tensor]
    ) -> list[dict[str, Tensor]]: ...

    def add_row(
        self, asked: NetworkRows, ask: Ask, prepared: Any, side: Side, seen: Iterable[Mapping[str, Tensor]] = ()
    ) -> None: ...


def wrapped_groups(parts: Iterable[SidePart]) -> list[list[SidePart]]:
    """The parts that are asked together."""
    groups: dict[Any, list[SidePart]] = {}
    for part in parts:
        first = part.entries[0]
        shapes = tuple(None if one is None else one.shape for one in (first.text, first.pooled, first.concat))
        where = part.region
        within = tuple((one.control.model, one.window) for one in part.within)
        groups.setdefault((part.model, first.hooks, where.height, where.width, shapes, within), []).append(part)
    return list(groups.values())


def x0_of_wrapped(
    questions: AskedInRows, seat: Seat, parts: Sequence[SidePart], x: Tensor, sigma: Tensor, level: float, to: float
) -> list[Tensor]:
    """The clean latents of each part, in its region."""
    model = questions.hooked(parts[0], level)
    if model.latent.frames_are_batch:
        raise _wrong("it acts on single latents, and this model answers all frames of a video together")
    around = [patch for patch in opaque_calls(model) if patch.wraps][-1]
    bases, count = [], x.shape[0]
    for part in parts:
        residuals = questions.residuals(seat, part, x, sigma, level, to, {})
        bases += [
            _BaseRow(part, index, entry, prepared, found)
            for index, (entry, prepared, found) in enumerate(zip(part.entries, part.prepared, residuals, strict=True))
        ]
    given = torch.cat([part.region.cut(x) for part in parts])
    sides = tuple(number_of(part.side) for part in parts)
    apply = _Apply(questions, seat, model, bases, given.shape, level, to)
    rows = PassRows(sides, level, questions.levels)
    c = {**_conditions(bases), "transformer_options": around.options_of(rows, x.device)}
    if (control := _stacked([base.residuals for base in bases])) is not None:
        c["control"] = control
    apply.passed = c
    levels = torch.full((len(given),), level, device=x.device)
    found = around.wrapped(apply, {"input": given, "timestep": levels, "c": dict(c), "cond_or_uncond": list(sides)})
    if not isinstance(found, Tensor) or found.shape != given.shape:
        what = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise _wrong(f"the function around the model's call gave {what}; expected a tensor {list(given.shape)}")
    return [found.float()[at : at + count] for at in range(0, len(found), count)]


@dataclass(frozen=True, eq=False, slots=True)
class _BaseRow:
    part: SidePart
    index: int
    """Of the latent."""
    entry: Entry
    prepared: Any
    residuals: Mapping[str, Tensor]


class _Apply:
    """`apply_model(x, sigmas, **c)`: the clean latents of rows."""

    def __init__(
        self,
        questions: AskedInRows,
        seat: Seat,
        model: Model,
        bases: Sequence[_BaseRow],
        shape: Sequence[int],
        level: float,
        to: float,
    ) -> None:
        self._questions, self._seat, self._model, self._bases = questions, seat, model, bases
        self._shape, self._level, self._to = tuple(shape), level, to
        self.passed: Mapping[str, Any] = {}
        """The `c` that was handed out."""

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Tensor:
        model = self._under(transformer_options)
        levels = [float(level) for level in torch.as_tensor(t).reshape(-1).expand(len(x)).tolist()]
        bases = self._chosen(x, c_crossattn, {"c_concat": c_concat, **more})
        sigma = torch.tensor(levels, device=x.device).view(-1, *(1,) * (x.dim() - 1))
        if len(set(levels)) == 1:
            sigma = torch.tensor(levels[0])  # as for all other questions: the same numbers, the same bits
        prediction, seen = model.prediction, model.prediction.scale_in(x.float(), sigma)
        network = model.family.part(model.config, levels[0])
        networks = tuple(cast(ControlNet, one.control.model) for one in self._within(bases[0]))
        asked = NetworkRows(model, network, levels[0], within=networks)
        for index, (base, level) in enumerate(zip(bases, levels, strict=True)):
            within = self._within(base)
            to = self._to if level == self._level else self._questions.next_level(level)
            time = self._questions.time(model, level)
            residuals = base.residuals if control is not None or "control" not in self.passed else {}
            ask = Ask(seen[index], level, to, time, base.entry, residuals)
            self._questions.add_row(asked, ask, base.prepared, base.part.side, carried(within, ask, base.index))
        (answers,) = self._questions.calls.answers(self._seat, [asked])
        back = model.family.net.back
        outs = [back(model.config, ask, answer) for ask, answer in zip(asked.asks, answers, strict=True)]
        return prediction.x0(x.float(), sigma, torch.stack(outs).float())

    def _within(self, base: _BaseRow) -> list[Controlled]:
        """The control networks that act within the model's at the level of the question: the same for all rows."""
        return [one for one in base.part.within if acts(one.window, self._level)]

    def _under(self, options: Mapping[str, Any] | None) -> Model:
        """The model under the options that the code around the call has passed on."""
        if options is None or options is self.passed.get("transformer_options"):
            return self._model
        patches = (one.under(options) if isinstance(one, OpaqueCall) else one for one in self._model.patches)
        return replace(self._model, patches=tuple(patches))

    def _chosen(self, x: Tensor, text: Tensor | None, more: Mapping[str, Any]) -> list[_BaseRow]:
        """What each row is asked with: the row of the question at its place, or, of a part of them, that of its
        text."""
        if x.shape[1:] != self._shape[1:]:
            raise _wrong(
                f"apply_model was given a latent {list(x.shape)}; expected [N, {str(list(self._shape[1:]))[1:]}"
            )
        passed = self.passed.get("c_crossattn")
        if text is None or text is passed:
            chosen = list(self._bases) if len(x) == len(self._bases) else None
        elif len(text) != len(x):
            chosen = None
        else:
            whole = len(x) == len(self._bases)
            chosen = [self._of_text(text[index], index if whole else None) for index in range(len(x))]
        if chosen is None:
            raise _wrong(f"apply_model was given {len(x)} latents; it was handed {len(self._bases)} with their texts")
        places = [next((at for at, base in enumerate(self._bases) if base is one), None) for one in chosen]
        for name, value in more.items():
            known = self.passed.get(name)
            is_kept = value is None or value is known
            if not is_kept and isinstance(value, Tensor) and isinstance(known, Tensor) and len(value) == len(x):
                is_kept = all(
                    at is not None and torch.equal(one, known[at]) for one, at in zip(value, places, strict=True)
                )
            if not is_kept:
                raise _wrong(f"apply_model was given another {name!r}; only c_crossattn and options may be changed")
        return chosen

    def _of_text(self, text: Tensor, place: int | None) -> _BaseRow:
        order = [*([self._bases[place]] if place is not None else []), *self._bases]
        for base in order:
            own = base.entry.text
            if own is not None and own.shape == text.shape and torch.equal(own.to(text), text):
                return base
        if place is None:
            raise _wrong("apply_model was given a part of the rows with texts that are none of theirs")
        base = self._bases[place]
        entry = replace(base.entry, text=text.float())
        prepared = self._model.family.net.prepare(self._model.config, entry, self._shape[1:])
        return replace(base, entry=entry, prepared=prepared)


def _conditions(bases: Sequence[_BaseRow]) -> dict[str, Any]:
    """The entries of rows, under the names that ComfyUI gives what a network is asked with."""
    found = {}
    for name, key in (("text", "c_crossattn"), ("pooled", "y"), ("concat", "c_concat")):
        values = [getattr(base.entry, name) for base in bases]
        if all(value is not None for value in values):
            found[key] = torch.stack(values)
    return found


def _stacked(residuals: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor] | None:
    names = residuals[0].keys()
    if not names or any(one.keys() != names for one in residuals):
        return None
    return {name: torch.stack([one[name] for one in residuals]) for name in names}


def _wrong(message: str) -> GraphFlowError:
    return GraphFlowError([Problem("foreign_call", message, hint="the function is a node pack's: report it there")])
