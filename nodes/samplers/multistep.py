"""Steps that remember: they use the slopes or the pictures of the steps before, and ask the model once."""

from __future__ import annotations

import torch

from .stepper import Denoise, Deterministic, State, weighted


class AdamsBashforth(Deterministic):
    """A step along a mix of the last slopes."""

    def step(self, state: State, denoise: Denoise) -> State:
        denoised = denoise(state.x, state.sigma)
        if state.after == 0:
            return state.stepped(denoised)
        slopes = (*state.history[-3:], (state.x - denoised) / state.sigma)
        return state.stepped(state.x + weighted(slopes, self.weights(state, len(slopes))), slopes)

    def weights(self, state: State, count: int) -> list[float]:
        """How far to go along each of the last `count` slopes, latest last."""
        raise NotImplementedError


class LMS(AdamsBashforth):
    """Linear multistep of order 4 for unequal steps: the polynomial through the last slopes, integrated."""

    def weights(self, state: State, count: int) -> list[float]:
        known = state.sigmas[state.index + 1 - count : state.index + 1].double().tolist()
        return [_integral(known, place, float(state.sigma), float(state.after)) for place in range(count)]


def _integral(points: list[float], place: int, start: float, end: float) -> float:
    """Of the Lagrange polynomial that is 1 at one of the points and 0 at the others, from `start` to `end`."""
    here, product = points[place], [1.0]  # coefficients, that of the highest power last
    for other in points[:place] + points[place + 1 :]:
        lower = [value * -other for value in product] + [0.0]
        product = [(low + high) / (here - other) for low, high in zip(lower, [0.0, *product], strict=True)]
    return sum(value * (end ** (i + 1) - start ** (i + 1)) / (i + 1) for i, value in enumerate(product))


class IPNDM(AdamsBashforth):
    """Pseudo numerical methods (PNDM, arXiv 2202.09778, equation 9), started with lower orders (arXiv 2204.13902)."""

    WEIGHTS = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))

    def weights(self, state: State, count: int) -> list[float]:
        return [weight * float(state.after - state.sigma) for weight in self.WEIGHTS[count - 1]]


class RESMultistep(Deterministic):
    """The second-order exponential integrator of RES (arXiv 2308.02157), section 3.2, with one step's memory."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        if after == 0:
            return state.stepped(denoised)
        h = state.log_step()
        phi_1 = -torch.expm1(-h) / h
        target = phi_1 * denoised
        if state.history:
            phi_2 = (1 - phi_1) / h
            target = target + (denoised - state.history[-1]) * phi_2 / (state.log_step(1) / h)
        return state.stepped(after / sigma * state.x + h * target, (denoised,))


class GradientEstimation(Deterministic):
    """Gradient estimation (arXiv 2306.04848), algorithm 2 with gamma = 2: a slope twice what it was less the one before."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigma, state.after
        denoised = denoise(state.x, sigma)
        slope = (state.x - denoised) / sigma
        used = 2 * slope - state.history[-1] if state.history else slope
        x = denoised if after == 0 else state.x + used * (after - sigma)
        return state.stepped(x, (slope,))
