"""The moments of a run: x and the clean latent that the model predicts of it, at some of its noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .stepper import Answered, Denoise

__all__ = ["Trajectory", "chosen"]


class Trajectory:
    """Notes the last question at each wanted level: methods that look ahead ask at a level before they are there.

    The notes are part of the state that a run keeps, so a run that was stopped goes on with them.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = list(levels)
        self._noted: dict[int, tuple[Tensor, Tensor]] = {}

    def listening(self, denoise: Denoise) -> Denoise:
        """The same denoiser, whose questions and answers are noted."""
        return _Listening(denoise, self)

    def note(self, x: Tensor, sigma: Tensor, x0: Tensor) -> None:
        if float(sigma) in self.levels:
            self._noted[self.levels.index(float(sigma))] = (x.float().cpu().clone(), x0.float().cpu().clone())

    def frames(self) -> list[tuple[float, Tensor, Tensor]]:
        """(level, x, predicted x0) of each level that the model was asked at, the noisiest first; model unit."""
        return [(self.levels[index], *self._noted[index]) for index in sorted(self._noted)]

    def to_tensors(self) -> dict[str, Tensor]:
        return {
            f"trajectory.{index}.{name}": tensor
            for index, noted in self._noted.items()
            for name, tensor in zip(("x", "x0"), noted, strict=True)
        }

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Takes back what `to_tensors` gave."""
        for index in range(len(self.levels)):
            if f"trajectory.{index}.x" in tensors:
                self._noted[index] = (tensors[f"trajectory.{index}.x"], tensors[f"trajectory.{index}.x0"])


def chosen(sigmas: Tensor, count: int) -> list[float]:
    """So many of the levels that a run starts a step from, evenly spread, with the first and the last; or all."""
    starts = sigmas[:-1].tolist()
    if count >= len(starts):
        return starts
    places = torch.linspace(0, len(starts) - 1, count, dtype=torch.float64).round().long().tolist()
    return [starts[place] for place in places]


class _Listening:
    def __init__(self, denoise: Denoise, trajectory: Trajectory) -> None:
        self._denoise, self._trajectory = denoise, trajectory

    def __call__(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Tensor:
        answer = self._denoise(x, sigma, to)
        self._trajectory.note(x, sigma, answer)
        return answer

    def answer(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Answered:
        answer = self._denoise.answer(x, sigma, to)
        self._trajectory.note(x, sigma, answer.guided)
        return answer
