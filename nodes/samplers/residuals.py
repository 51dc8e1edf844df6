"""What control networks, and code of others that acts like one, add inside the network that is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..devices.passes import Seat
from ..devices.use import Device
from ..model.entry import Ask, Control, Entry
from ..model.handles import ControlNet, Model
from ..model.opaque_control import OpaqueControl, Residuals
from .controlling import acts, controlled, masked, window_of
from .network_calls import NetworkCalls
from .opaque import number_of
from .parts import Controlled, NetworkRows, OpaqueControlled, SidePart

__all__ = ["ControlQuestion", "begun", "residuals_of"]


class AskControls(Protocol):
    def __call__(self, controls: Sequence[Control], given: Tensor, at: float) -> Residuals: ...


@dataclass(frozen=True, eq=False)
class ControlQuestion:
    """One question to code of others about the latents of one conditioning."""

    model: Model
    x: Tensor
    """float32 [B, C, h, w] or [B, C, frames, h, w], model unit, not scaled, cut to the conditioning's region."""
    level: float
    levels: tuple[float, ...]
    """All noise levels of the run, falling."""
    entries: Sequence[Entry]
    """One for each latent."""
    side: int
    """0 is the positive, 1 the negative."""
    ask: AskControls
    """The answers of control networks of ours at latents of this shape and at a level."""


class AskedAboutControls(Protocol):
    """The questions of a run, as far as they are asked here (see questions.py)."""

    device: Device
    calls: NetworkCalls

    @property
    def levels(self) -> tuple[float, ...]: ...

    def next_level(self, level: float) -> float: ...

    def time(self, model: Model, level: float) -> float: ...


def begun(control: OpaqueControl, model: Model) -> OpaqueControlled:
    """Code of others at the beginning of a run."""
    control.begin(model)
    return OpaqueControlled(control, window_of(control.window, model))


def residuals_of(
    questions: AskedAboutControls, seat: Seat, part: SidePart, x: Tensor, seen: Tensor, level: float, to: float
) -> Residuals:
    """For each latent of a part the sum of all answers times their strengths.

    x: in the part's region, not scaled; `seen`: as networks take it.
    """
    total: Residuals = [{} for _ in part.entries]
    active = [one for one in part.controls if acts(one.window, level)]
    _add(total, _answers(questions, seat, active, part.model, seen, level, to))
    for opaque in (one for one in part.opaque if acts(one.window, level)):
        _add(total, opaque.control.residuals(_question(questions, seat, opaque, part, x, level, to)))
    return total


def _question(
    questions: AskedAboutControls,
    seat: Seat,
    opaque: OpaqueControlled,
    part: SidePart,
    x: Tensor,
    level: float,
    to: float,
) -> ControlQuestion:
    """The question to code of others, which may ask control networks of ours itself."""
    model, entries = part.model, part.entries

    def ask(controls: Sequence[Control], given: Tensor, at: float) -> Residuals:
        asked = []
        for control in controls:
            key = (control.model, id(control.hint), control.vae)
            if key not in opaque.asked:
                opaque.asked[key] = controlled(questions.device, control, entries, tuple(x.shape[1:]), model)
            prepared = opaque.asked[key]
            stated = replace(control, model=prepared.control.model)
            asked.append(replace(prepared, control=stated, window=window_of(control.window, model)))
        active = [one for one in asked if acts(one.window, at)]
        seen = model.prediction.scale_in(given.float(), torch.tensor(at))
        return _answers(questions, seat, active, model, seen, at, to if at == level else questions.next_level(at))

    return ControlQuestion(model, x, level, questions.levels, entries, number_of(part.side), ask)


def _answers(
    questions: AskedAboutControls,
    seat: Seat,
    active: Sequence[Controlled],
    model: Model,
    seen: Tensor,
    level: float,
    to: float,
) -> Residuals:
    """The answers of control networks, under their masks, times their strengths, summed in order."""
    total: Residuals = [{} for _ in seen]
    asked = []
    for one in active:
        handle = cast(ControlNet, one.control.model)
        time = questions.time(model, level)
        asks = [Ask(seen[index], level, to, time, entry) for index, entry in enumerate(one.entries)]
        net = handle.family.net
        rows = [net.row(handle.config, ask, made) for ask, made in zip(asks, one.prepared, strict=True)]
        asked.append(NetworkRows(handle, handle.family.part(handle.config, level), level, asks, rows))
    if asked:
        for one, answers in zip(active, questions.calls.answers(seat, asked), strict=True):
            _add(total, [masked(answer, one.control, index) for index, answer in enumerate(answers)])
    return total


def _add(total: Sequence[dict[str, Any]], more: Sequence[Mapping[str, Tensor]]) -> None:
    """Into the dicts of `total`."""
    for found, added in zip(total, more, strict=True):
        for name, residual in added.items():
            found[name] = found[name] + residual if name in found else residual
