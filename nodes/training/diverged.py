"""A training whose numbers are no longer finite: the last good state becomes a file, and the Problem names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflow import Context, GraphFlowError, Problem

from .state import State, is_finite
from .state_file import FOLDER, keep_state_file

__all__ = ["Diverged", "diverged"]


class Diverged(Exception):
    """A step that is not made."""

    def __init__(self, what: str, step: int, rate: float) -> None:
        """`step`: the number of steps made before it."""
        super().__init__(f"{what} is not a number at step {step + 1}, with a learning rate of {rate:.2e}")


def diverged(error: Diverged, state: State, context: Context, start: Mapping[str, Any] | None) -> GraphFlowError:
    """The Problem. The last good state is the present one; where a step has made weights that are not finite, it is the
    one that was kept last, or else the one that the training began with."""
    lower = "lower learning_rate, or lengthen lr_warmup_steps"
    is_good = is_finite(state.parameters.values())
    good = state.plain() if is_good else context.restore() or start
    if good is None or not good["step"]:
        return GraphFlowError([Problem("training_diverged", str(error), input="learning_rate", hint=lower)])
    path = keep_state_file(good, context.settings)
    message = f"{error}; the state after step {good['step']} is kept in {FOLDER}/{path.name} of the output folder"
    hint = f"{lower}; to go on from there, link LoadTrainingState to state (with 0 steps you get what it has learnt)"
    return GraphFlowError([Problem("training_diverged", message, input="learning_rate", hint=hint)])
