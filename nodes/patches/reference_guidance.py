r"""Guidance away from the answer without a reference sound, for the sound alone (ID-LoRA, arXiv 2603.10256).

.. math:: \hat x_0^a = x_0^a + s \, (x_0^{+a} - x_0^{\varnothing a})

a: the sound; :math:`\varnothing`: the positive conditioning without its reference. The video stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..model.prediction import is_within
from ..samplers.guidance import POSITIVE, GuidancePatch, Side, Step

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ReferenceGuidance"]

_SIDE = "without_reference"


@dataclass(frozen=True)
class ReferenceGuidance(GuidancePatch):
    """Acts while the noise level is in the window, where the positive side has the reference."""

    option: str
    """The option of a conditioning that holds the reference."""
    scale: float
    window: tuple[float, float] = (0.0, 1.0)
    """In shares of the sampling."""
    acts: ClassVar[Literal["before", "instead", "after"]] = "after"

    def identity(self) -> Any:
        return ["reference_guidance", self.option, self.scale, list(self.window)]

    def sides(self, sides: tuple[Side, ...], sigma: float) -> tuple[Side, ...]:
        positive = next((side for side in sides if side.name == POSITIVE), None)
        if positive is None or self.scale == 0.0 or not is_within(positive.model.prediction, self.window, sigma):
            return sides
        if not any(self.option in entry.extra for batch in positive.batches for entry in batch):
            return sides
        batches = tuple(
            tuple(replace(entry, extra=self._without(entry.extra)) for entry in batch) for batch in positive.batches
        )
        return (*sides, replace(positive, name=_SIDE, batches=batches))

    def combine(self, step: Step, guided: Tensor) -> Tensor:
        if _SIDE not in step.x0 or step.pair is None:
            return guided
        video = math.prod(step.pair.video)
        difference = step.x0[POSITIVE] - step.x0[_SIDE]
        difference[..., :video] = 0.0
        return guided + self.scale * difference

    def _without(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in extra.items() if name != self.option}
