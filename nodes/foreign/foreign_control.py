"""A control object of a pack on a conditioning: the sampler asks it as it asks control networks of ours."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.entry import Control
from ..model.handles import Model
from ..model.opaque_control import OpaqueControl, Residuals
from ..samplers.residuals import ControlQuestion
from .changes import key_of_change
from .control_answers import from_pack, takes_answers, to_pack
from .kinds import inner_model
from .model_options import copied
from .options import options_of
from .origin import PackOrigin, called, origin_now

__all__ = ["ForeignControl", "answer_of", "asked_of", "is_control", "prepare"]

_QUESTION: ContextVar[ControlQuestion | None] = ContextVar("question", default=None)
"""The question that a control object of a pack is asked in this thread."""


def is_control(value: Any) -> bool:
    """Whether an object is asked by a sampler as a control is."""
    return callable(getattr(value, "get_control", None))


@dataclass(frozen=True, eq=False, kw_only=True)
class ForeignControl(OpaqueControl):
    """`control.get_control(x, level [B], {c_crossattn, y, ...}, 1, options)` -> {input, middle, output} or None."""

    control: Any
    origin: PackOrigin
    key: str

    @classmethod
    def of(cls, control: Any) -> ForeignControl:
        """Put on a conditioning by the node that runs. Its range is its own affair: `get_control` knows the level."""
        return cls(control=control, origin=origin_now(), key=key_of_change())

    def identity(self) -> Any:
        return ["foreign", "control", self.key, self.both_sides]

    def misfit(self, model: Model) -> str | None:
        if takes_answers(model):
            return None
        node = f"the node {self.origin.node!r} of the pack {self.origin.pack!r}"
        return (
            f"{node} has put a control on the conditioning, and {model.family.title} is not open to controls of packs"
        )

    def begin(self, model: Model) -> None:
        inner = inner_model(model, options_of(model))
        called(self.origin, prepare, self.control, inner, model.prediction.at)

    @torch.inference_mode()
    def residuals(self, question: ControlQuestion) -> Residuals:
        x = question.x
        levels = torch.full((len(x),), question.level, device=x.device)
        options = {
            **copied(options_of(question.model).get("transformer_options", {})),
            "cond_or_uncond": [question.side],
            "sigmas": levels,
            "sample_sigmas": torch.tensor(question.levels),
        }
        cond = {**_conditions(question), "transformer_options": options}

        def ask() -> Residuals:
            return from_pack(asked_of(self.control, x, levels, cond, 1, options), question.model, x)

        with _asked(question):
            return called(self.origin, ask)  # type: ignore[no-any-return]


def prepare(control: Any, model: Any, percent_to_timestep: Any) -> None:
    """A run begins; objects that are derived from nothing need not know."""
    if hasattr(control, "pre_run"):
        control.pre_run(model, percent_to_timestep)


def asked_of(control: Any, *given: Any) -> Any:
    """`get_control` of latents, level, conditions, a number and options; older objects take no options."""
    return control.get_control(*given[: _taken(control.get_control)])


def answer_of(controls: tuple[Control, ...], x: Tensor, level: Any) -> dict[str, list[Tensor | None]]:
    """What control networks of ours add to the question that is being asked, for a pack's object that goes on from it.

    Raises a Problem where no sampler asks.
    """
    question = _QUESTION.get()
    if question is None:
        raise GraphFlowError([_NOT_ASKED])
    if x.shape != question.x.shape:
        raise ValueError(f"get_control was given latents {list(x.shape)}; expected {list(question.x.shape)}")
    found = question.ask(controls, x, float(torch.as_tensor(level).reshape(-1)[0]))
    return to_pack(found, question.model)


@contextmanager
def _asked(question: ControlQuestion) -> Iterator[None]:
    token = _QUESTION.set(question)
    try:
        yield
    finally:
        _QUESTION.reset(token)


def _taken(function: Any) -> int:
    """How many of the five arguments it takes; older ones take four."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return 5
    return min(5, sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters))


def _conditions(question: ControlQuestion) -> dict[str, Any]:
    found = {}
    for name, key in (("text", "c_crossattn"), ("pooled", "y"), ("concat", "c_concat")):
        values = [getattr(entry, name) for entry in question.entries]
        if all(value is not None for value in values):
            found[key] = torch.stack([value.float() for value in values]).to(question.x.device)
    return found


_NOT_ASKED = Problem(
    "no_run",
    "the pack asks a control network outside of a sampler's run",
    hint="put it on a conditioning: the sampler asks it",
)
