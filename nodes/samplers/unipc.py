"""UniPC: a predictor, and a corrector that costs no model call of its own (arXiv 2302.04867)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .stepper import Denoise, Deterministic, State, weighted

ORDER = 3
LAST_SIGMA = 0.001
"""Where it stops: the logarithm of 0 is none."""


class UniPC(Deterministic):
    """Multistep UniPC-3 for models that predict the picture: algorithm 6 and 8, with lower orders at both ends.

    `history` holds the answers at the noise levels behind and at the one that is reached, latest last: the corrector
    uses the answer at a step's predicted end, and the next step starts with that answer.
    """

    def __init__(self, bh2: bool = False) -> None:
        """B(h) is h, or with `bh2` e^h - 1."""
        self._bh2 = bh2

    def begin(self, x: Tensor, sigmas: Tensor, seed: int) -> State:
        if sigmas[-1] == 0:
            sigmas = torch.cat([sigmas[:-1], sigmas.new_tensor([LAST_SIGMA])])
        return State(x, sigmas)

    def step(self, state: State, denoise: Denoise) -> State:
        index, sigmas, sigma, after = state.index, state.sigmas, state.sigma, state.after
        steps = len(sigmas) - 1
        known = state.history or (denoise(state.x, sigma),)
        order = max(1, min(ORDER, steps - 1, index + 1, steps - index))
        h = state.log_step()
        behind = [((sigma / sigmas[index - k]).log() / h).item() for k in range(1, order)]
        slopes = [(known[-1 - k] - known[-1]) / place for k, place in enumerate(behind, start=1)]
        base = after / sigma * state.x - torch.expm1(-h) * known[-1]
        scale = torch.expm1(-h) if self._bh2 else -h
        x = base - scale * weighted(slopes, self._weights([*behind, 1.0], h, predicts=True))
        if index + 1 == steps:
            return state.stepped(x)
        answer = denoise(x, after)
        x = base - scale * weighted([*slopes, answer - known[-1]], self._weights([*behind, 1.0], h, predicts=False))
        return state.stepped(x, (*known, answer)[-ORDER:])

    def _weights(self, places: list[float], h: Tensor, predicts: bool) -> list[float]:
        """The solution of equation 5: what the slopes count, so that the powers of h below the order vanish."""
        order, value = len(places), -float(h)
        if order == 1:
            return [] if predicts else [0.5]
        if order == 2 and predicts:
            return [0.5]
        scale = math.expm1(value) if self._bh2 else value
        phi, wanted = math.expm1(value) / value - 1, []
        for power in range(1, order + 1):
            wanted.append(phi * math.factorial(power) / scale)
            phi = phi / value - 1 / math.factorial(power + 1)
        rows = torch.tensor([[place**power for place in places] for power in range(order)], dtype=torch.float64)
        right = torch.tensor(wanted, dtype=torch.float64)
        if predicts:
            rows, right = rows[:-1, :-1], right[:-1]
        return list(torch.linalg.solve(rows, right).tolist())
