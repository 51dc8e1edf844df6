"""The loop around a stepper: it can start from a saved state and reports every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from .stepper import Answered, Denoise, State, Stepper

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["sample"]


def sample(
    stepper: Stepper,
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    seed: int,
    *,
    prediction: Prediction | None = None,
    state: State | None = None,
    on_step: Callable[[State, Tensor], None] | None = None,
) -> Tensor:
    """Run to the last level and return x. `on_step(state, denoised)` may raise to cancel; `state` resumes a run.

    `denoised` is the step's first answer of the denoiser, at the x the step began with; x itself where it asks for
    none. `prediction` decides between the forms of a method for flow and for exploding variance.
    """
    state = state or stepper.begin(x, sigmas, seed, prediction)
    while not state.done:
        asked = _FirstAnswer(denoise)
        state = stepper.step(state, asked)
        if on_step is not None:
            on_step(state, state.x if asked.first is None else asked.first)
    return state.x


class _FirstAnswer:
    """A denoiser that keeps its first answer."""

    def __init__(self, denoise: Denoise) -> None:
        self._denoise = denoise
        self.first: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Tensor:
        answer = self._denoise(x, sigma) if to is None else self._denoise(x, sigma, to)
        self.first = answer if self.first is None else self.first
        return answer

    def answer(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Answered:
        answer = self._denoise.answer(x, sigma, to)
        self.first = answer.guided if self.first is None else self.first
        return answer
