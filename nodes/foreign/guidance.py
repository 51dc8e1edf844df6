"""Functions of packs in guidance, as patches of guidance.

| ComfyUI | here |
|---|---|
| `sampler_pre_cfg_function` | changes the sides' answers |
| `sampler_cfg_function` | stands for the formula; it is handed, and gives, noise: x - x0 |
| `sampler_post_cfg_function` | changes the guided answer |
| `sampler_calc_cond_batch_function` | asks the network in place of the sampler |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..samplers.guidance import NEGATIVE, POSITIVE, Asking, GuidancePatch, Step
from .conditions import conditions_of
from .kinds import inner_model
from .options import options_of
from .origin import PackOrigin, called

__all__ = ["KINDS", "ForeignAfter", "ForeignBefore", "ForeignGuidance", "ForeignInstead", "ForeignQuestion"]

Given = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ForeignGuidance(GuidancePatch):
    """Known by the call of the pack's node that made it."""

    function: Callable[[Given], Any]
    origin: PackOrigin
    key: str
    needs_negative: bool = False  # type: ignore[misc]  # decided by the pack, patch by patch
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def identity(self) -> Any:
        return ["foreign", type(self).__name__, self.key]

    def _call(self, given: Given) -> Any:
        return called(self.origin, self.function, given)

    def _tensor(self, given: Given, like: Tensor) -> Tensor:
        found = self._call(given)
        return called(self.origin, _checked, found, like)  # type: ignore[no-any-return]


class ForeignInstead(ForeignGuidance):
    """In place of the formula of guidance."""

    acts: ClassVar[Literal["before", "instead", "after"]] = "instead"

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        shown = _ShownModel(step)
        noise = {"cond": step.x - shown.cond, "uncond": step.x - shown.uncond}
        also = {"input_cond": shown.conds[0], "input_uncond": shown.conds[1], "timestep": shown.sigma}
        return step.x - self._tensor({**shown.common(), **shown.answers(), **noise, **also}, step.x)


class ForeignAfter(ForeignGuidance):
    """On the guided answer."""

    acts: ClassVar[Literal["before", "instead", "after"]] = "after"

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        shown = _ShownModel(step)
        also = {"denoised": guided, "cond": shown.conds[0], "uncond": shown.conds[1]}
        return self._tensor({**shown.common(), **shown.answers(), **also}, guided)


class ForeignBefore(ForeignGuidance):
    """On the answers of both sides."""

    acts: ClassVar[Literal["before", "instead", "after"]] = "before"

    def answers(self, step: Step) -> Mapping[str, Tensor]:
        shown = _ShownModel(step)
        outs = [shown.cond, shown.uncond] if NEGATIVE in step.x0 else [shown.cond]
        also = {"conds": shown.conds, "conds_out": outs, "timestep": shown.sigma}
        found = self._call({**shown.common(), **also})
        names = (POSITIVE, NEGATIVE)[: len(outs)]
        changed = {
            name: called(self.origin, _checked, one, shown.cond) for name, one in zip(names, found, strict=False)
        }
        return {**step.x0, **changed}


class ForeignQuestion(ForeignGuidance):
    """Asks the network by itself."""

    acts: ClassVar[Literal["before", "instead", "after"]] = "before"

    def answers_of(self, asking: Asking) -> Mapping[str, Tensor]:
        conds = _conds(asking)
        options = options_of(asking.model)
        model = inner_model(asking.model, options, asking)
        sigma = asking.sigma.to(asking.x.device).expand(len(asking.x))
        found = self._call(
            {"conds": conds, "input": asking.x, "sigma": sigma, "model": model, "model_options": options}
        )
        answers = {POSITIVE: found[0]} if conds[1] is None else {POSITIVE: found[0], NEGATIVE: found[1]}
        return {name: called(self.origin, _checked, one, asking.x) for name, one in answers.items()}


KINDS: Mapping[str, type[ForeignGuidance]] = {
    "sampler_pre_cfg_function": ForeignBefore,
    "sampler_cfg_function": ForeignInstead,
    "sampler_post_cfg_function": ForeignAfter,
    "sampler_calc_cond_batch_function": ForeignQuestion,
}
"""Key of `model_options` -> the patch that its function becomes."""


class _ShownModel:
    """A step as functions of packs see it."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.cond = step.x0[POSITIVE]
        unwanted = step.x0.get(NEGATIVE)
        self.uncond = torch.zeros_like(self.cond) if unwanted is None else unwanted
        self.sigma = step.sigma.to(step.x.device).expand(len(step.x))
        self.conds = _conds(step.asking) if step.asking is not None else [None, None]

    def common(self) -> Given:
        options, model = {}, None
        if self._step.asking is not None:
            options = options_of(self._step.asking.model)
            model = inner_model(self._step.asking.model, options, self._step.asking)
        step = {"cond_scale": self._step.cfg, "input": self._step.x, "sigma": self.sigma}
        return {**step, "model": model, "model_options": options}

    def answers(self) -> Given:
        return {"cond_denoised": self.cond, "uncond_denoised": self.uncond}


def _conds(asking: Asking) -> list[Any]:
    """[positive, negative or None]"""
    sides = {side.name: side for side in asking.sides}
    return [conditions_of(sides[name].batches) if name in sides else None for name in (POSITIVE, NEGATIVE)]


def _checked(found: Any, like: Tensor) -> Tensor:
    if not isinstance(found, Tensor) or found.shape != like.shape:
        what = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"it gave {what}; expected a tensor {list(like.shape)}")
    return found
