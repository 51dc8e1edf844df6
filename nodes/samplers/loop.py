"""The loop around a stepper: it can start from a saved state and tells of every step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .stepper import Denoise, State, Stepper


def sample(
    stepper: Stepper,
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    seed: int,
    *,
    state: State | None = None,
    on_step: Callable[[State, Tensor], None] | None = None,
) -> Tensor:
    """Run to the last sigma and return x. `on_step(state, denoised)` may raise to cancel; `state` resumes a run.

    `denoised` is the step's first answer of the denoiser, at the x the step began with; x itself where it asks for none.
    """
    state = state or stepper.begin(x, sigmas, seed)
    while not state.done:
        answers: list[Tensor] = []

        def ask(x: Tensor, sigma: Tensor, answers: list[Tensor] = answers) -> Tensor:
            answers.append(denoise(x, sigma))
            return answers[-1]

        state = stepper.step(state, ask)
        if on_step is not None:
            on_step(state, answers[0] if answers else state.x)
    return state.x
