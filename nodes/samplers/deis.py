"""DEIS: the polynomial through the last slopes is integrated along the time of the diffusion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .multistep import AdamsBashforth
from .stepper import State

__all__ = ["DEIS"]

POINTS = 10_000
"""Of the sum that stands for the integral."""


@dataclass(frozen=True)
class DEIS(AdamsBashforth):
    r"""tAB-DEIS of order 3 (arXiv 2204.13902, equation 15): slopes are interpolated in time, not in sigma.

    .. math:: w_k = \int_{t_i}^{t_{i+1}} \frac{d\sigma}{dt} \prod_{j \ne k} \frac{t - t_{i-j}}{t_{i-k} - t_{i-j}} \, dt,
              \qquad \ln(\sigma(t)^2 + 1) = \tfrac{1}{2} \beta_d t^2 + \beta_0 t

    :math:`\beta_d, \beta_0` are those for which t runs from 0.001 to 1 between the levels 0.002 and 80.
    """

    def most(self, state: State) -> int:
        return 3

    def weights(self, state: State, count: int) -> list[float]:
        if count == 1:
            return [float(state.after - state.sigma)]
        known = _times(state.sigmas[state.index + 1 - count : state.index + 1])
        now, end = _times(torch.stack([state.sigma, state.after]))
        t = torch.linspace(float(now), float(end), POINTS, dtype=torch.float64)
        alpha = (-(0.5 * _BETA_D * t**2 + _BETA_0 * t)).exp()
        change = 0.5 * (_BETA_D * t + _BETA_0) / (alpha * (1 - alpha)).sqrt()
        found = []
        for place in range(count):
            others = torch.cat([known[:place], known[place + 1 :]])
            shape = ((t.unsqueeze(-1) - others) / (known[place] - others)).prod(dim=-1)
            found.append(float((change * shape).sum() * (end - now) / POINTS))
        return found


_LOW, _HIGH, _FIRST = 0.002, 80.0, 1e-3
_BETA_D = 2 * (math.log(_LOW**2 + 1) / _FIRST - math.log(_HIGH**2 + 1)) / (_FIRST - 1)
_BETA_0 = math.log(_HIGH**2 + 1) - 0.5 * _BETA_D


def _times(sigmas: Tensor) -> Tensor:
    """The time of each level, float64."""
    return ((_BETA_0**2 + 2 * _BETA_D * (sigmas.double() ** 2 + 1).log()).sqrt() - _BETA_0) / _BETA_D
