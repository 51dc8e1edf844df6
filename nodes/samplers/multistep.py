"""Steps that remember: they use the slopes or the pictures of the steps before, and ask the model once."""

from __future__ import annotations

from dataclasses import replace

import torch

from .stepper import Denoise, Deterministic, State


class LMS(Deterministic):
    """Linear multistep (Adams-Bashforth of order 4 for unequal steps): the polynomial through the last slopes, integrated."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        slopes = (*state.history[-3:], (state.x - denoised) / sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1, history=slopes)
        known = state.sigmas[state.index + 1 - len(slopes) : state.index + 1].double().tolist()
        weights = [_integral(known, place, float(sigma), float(after)) for place in range(len(known))]
        x = state.x + sum(slope * weight for slope, weight in zip(slopes, weights, strict=True))
        return replace(state, x=x, index=state.index + 1, history=slopes)


def _integral(points: list[float], place: int, start: float, end: float) -> float:
    """Of the Lagrange polynomial that is 1 at one of the points and 0 at the others, from `start` to `end`."""
    here, product = points[place], [1.0]  # coefficients, that of the highest power last
    for other in points[:place] + points[place + 1 :]:
        lower = [value * -other for value in product] + [0.0]
        product = [(low + high) / (here - other) for low, high in zip(lower, [0.0, *product], strict=True)]
    return sum(value * (end ** (i + 1) - start ** (i + 1)) / (i + 1) for i, value in enumerate(product))


class IPNDM(Deterministic):
    """Pseudo numerical methods (PNDM, arXiv 2202.09778, equation 9), started with lower orders (arXiv 2204.13902)."""

    WEIGHTS = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        slopes = (*state.history[-3:], (state.x - denoised) / sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1, history=slopes)
        slope = sum(past * weight for past, weight in zip(slopes, self.WEIGHTS[len(slopes) - 1], strict=True))
        return replace(state, x=state.x + slope * (after - sigma), index=state.index + 1, history=slopes)


class RESMultistep(Deterministic):
    """The second-order exponential integrator of RES (arXiv 2308.02157), section 3.2, with one step's memory."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        if after == 0:
            return replace(state, x=denoised, index=state.index + 1, history=(denoised,))
        h = (sigma / after).log()
        phi_1 = -torch.expm1(-h) / h
        target = phi_1 * denoised
        if state.history:
            back = -(state.sigmas[state.index - 1] / sigma).log() / h
            phi_2 = (1 - phi_1) / h
            target = target + (state.history[-1] - denoised) * phi_2 / back
        return replace(state, x=after / sigma * state.x + h * target, index=state.index + 1, history=(denoised,))


class GradientEstimation(Deterministic):
    """Gradient estimation (arXiv 2306.04848), algorithm 2 with gamma = 2: a slope twice what it was less the one before."""

    def step(self, state: State, denoise: Denoise) -> State:
        sigma, after = state.sigmas[state.index], state.sigmas[state.index + 1]
        denoised = denoise(state.x, sigma)
        slope = (state.x - denoised) / sigma
        used = 2 * slope - state.history[-1] if state.history else slope
        x = denoised if after == 0 else state.x + used * (after - sigma)
        return replace(state, x=x, index=state.index + 1, history=(slope,))
