r"""Model calls that are left out where the answer would hardly change (EasyCache, arXiv 2507.02860). Lossy.

With the network's input :math:`x_t` (scaled, as it takes it) and its answer :math:`v_t` at the step t, i and j the last
two steps that were computed, and means over all numbers of the latents, of the side with the prompt:

.. math:: k = \frac{\overline{|v_i - v_j|}}{\overline{|x_i - x_j|}}, \qquad
          E_t = E_{t-1} + k \, \frac{\overline{|x_t - x_{t-1}|}}{\overline{|v_i|}}, \qquad E_i = 0

While E is below a threshold, each side answers :math:`x_t + (v_i - x_i)` in place of the network.

What a run remembers is a part of its state: one that goes on after a stop leaves out the same calls.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from graphflow import GraphFlowError, Problem

from ..model.handles import Model
from ..model.prediction import is_within
from ..samplers.guidance import POSITIVE, Asking, GuidancePatch, Side, Step, patches_of
from .guidance import Acts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StepCache", "with_step_cache"]

DIFFERENCE = "difference."
"""Of the names in the memory: v - x of a side, at the last step that was computed."""


@dataclass(frozen=True)
class StepCache(GuidancePatch):
    """Its rows share no passes with those of other samplers, which would wait for calls that are left out."""

    threshold: float
    window: tuple[float, float]
    """From and to, in shares of the sampling: calls are left out within it."""
    verbose: bool = field(default=False, compare=False)
    """Each call is logged."""
    acts: ClassVar[Acts] = "after"
    in_own_passes: ClassVar[bool] = True

    def identity(self) -> Any:
        return ["step_cache", self.threshold, list(self.window)]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        for patch in patches_of(sides[0].model):
            if type(patch).further is not GuidancePatch.further:
                raise GraphFlowError(
                    [
                        Problem(
                            "no_answers_inside",
                            f"EasyCache leaves out calls of the network that {type(patch).__name__} looks into",
                            hint="leave out one of the two nodes",
                        )
                    ]
                )
        return sides

    def answers_of(self, asking: Asking) -> Mapping[str, Tensor] | None:
        if self._change(asking) is None:
            return None
        given = _given(asking)
        outs = {side.name: given + asking.memory[DIFFERENCE + side.name].to(given) for side in asking.sides}
        return {name: asking.model.prediction.x0(asking.x, asking.sigma, out) for name, out in outs.items()}

    def answered(self, asking: Asking, x0: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        given, change, memory = _given(asking), self._change(asking), asking.memory
        if self.verbose:
            state = "computed" if change is None else f"reused, changed by {change:.4g}"
            logging.getLogger("graphflow.sampling").info("noise level %.4g: %s", float(asking.sigma), state)
        if change is not None:
            return {**memory, "given": given, "change": _number(change)}
        outs = {name: _out(asking, found) for name, found in x0.items()}
        found = {f"{DIFFERENCE}{name}": (out - given).contiguous() for name, out in outs.items()}
        out = outs[POSITIVE].contiguous()
        rate = {key: memory[key] for key in ("rate",) if key in memory}
        if "out" in memory and memory["out"].shape == out.shape:
            moved = _mean(given - memory["computed"].to(given))
            if moved > 0.0:
                rate = {"rate": _number(_mean(out - memory["out"].to(out)) / moved)}
        return {"given": given, "computed": given, "out": out, "change": _number(0.0), **rate, **found}

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        return guided

    def _change(self, asking: Asking) -> float | None:
        """E of a step that is left out; None: it is to be computed."""
        memory, names = asking.memory, {f"{DIFFERENCE}{side.name}" for side in asking.sides}
        if "rate" not in memory or not names <= memory.keys():
            return None
        if not is_within(asking.model.prediction, self.window, float(asking.sigma)):
            return None
        given, before = _given(asking), memory["given"]
        length = _mean(memory["out"])
        if before.shape != given.shape or length == 0.0:
            return None
        change = float(memory["change"]) + float(memory["rate"]) * _mean(given - before.to(given)) / length
        return change if change < self.threshold else None


def with_step_cache(model: Model, patch: StepCache) -> Model:
    """The model under a cache of steps, in place of one that it has."""
    others = tuple(other for other in model.patches if not isinstance(other, StepCache))
    return replace(model, patches=(*others, patch))


def _given(asking: Asking) -> Tensor:
    """x as the network takes it."""
    return asking.model.prediction.scale_in(asking.x, asking.sigma).contiguous()


def _out(asking: Asking, x0: Tensor) -> Tensor:
    """The network's answer that a clean latent stands for: of every prediction the clean latent is linear in it."""
    prediction, x = asking.model.prediction, asking.x
    at_0, at_1 = (prediction.x0(x, asking.sigma, torch.full_like(x, value)) for value in (0.0, 1.0))
    return (x0 - at_0) / (at_1 - at_0)


def _mean(a: Tensor) -> float:
    return float(a.abs().mean())


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
