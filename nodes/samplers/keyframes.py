"""The factors of a hook's keyframes over the noise levels of a run.

At a level the last keyframe counts whose begin is reached, and it counts for its number of guaranteed steps at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..model.hook import Keyframe

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["factor_at"]


def factor_at(keyframes: Sequence[Keyframe], prediction: Prediction, level: float, levels: Sequence[float]) -> float:
    """The factor at a level of a run over `levels`, which fall; 1 before the first keyframe.

    A keyframe that begins before the run has no guaranteed steps. A level between two of the run's counts as the higher
    one.
    """
    reached = max(sum(other >= level for other in levels), 1)
    current, steps = -1, 0
    for number, other in enumerate(levels[:reached]):
        while current + 1 < len(keyframes) and prediction.at(keyframes[current + 1].start) >= other:
            if current >= 0 and steps < _guaranteed(keyframes[current], prediction, levels, number):
                break
            current, steps = current + 1, 0
        steps += 1
    return keyframes[current].factor if current >= 0 else 1.0


def _guaranteed(keyframe: Keyframe, prediction: Prediction, levels: Sequence[float], number: int) -> int:
    return 0 if number == 0 or prediction.at(keyframe.start) > levels[0] else keyframe.guaranteed
