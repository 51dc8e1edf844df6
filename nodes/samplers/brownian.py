"""Noise that is one Brownian path: a function of the seed and the noise levels alone.

So more steps, or other ones, refine the same image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .stepper import State, _Method, below_1, is_flow

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = ["Brownian", "path"]


@dataclass(frozen=True)
class Brownian(_Method):
    """A stepper whose noise is the seed's Brownian path; the seed is the state's `rng`, the ends of the path its
    numbers."""

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        rng = torch.tensor(list(seed.to_bytes(8, "little")), dtype=torch.uint8)
        ends = tuple(float(level) for level in sigmas[sigmas > 0].aminmax()) if len(sigmas) else ()
        return State(x, below_1(sigmas, prediction), rng=rng, flow=is_flow(prediction), numbers=ends)


def path(state: State, sigma: Tensor, after: Tensor) -> Tensor:
    """The path's increment from one noise level down to another, of variance 1; the shape of x."""
    from torchsde import BrownianTree

    assert state.rng is not None
    seed = int.from_bytes(bytes(state.rng.tolist()), "little")
    # The tree rounds its ends to six digits, and warns of levels beyond them.
    low, high = (round(end, 6) for end in state.numbers[:2])
    start, end = (min(max(float(level), low), high) for level in (after, sigma))
    tree = BrownianTree(low, torch.zeros(state.x.shape, dtype=state.x.dtype), high, entropy=seed)
    increment: Tensor = -(tree(start, end) / (sigma - after).abs().sqrt())
    return increment.to(state.x.device)
