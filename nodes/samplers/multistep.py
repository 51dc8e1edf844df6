"""Linear multistep methods on the probability flow: steps along a mix of the last slopes, with one model call each."""

from __future__ import annotations

from dataclasses import dataclass

from .stepper import Denoise, Deterministic, State, weighted

__all__ = ["IPNDM", "IPNDMV", "LMS", "AdamsBashforth"]


@dataclass(frozen=True)
class AdamsBashforth(Deterministic):
    r"""A step along a mix of the last slopes :math:`d = (x - D) / \sigma`:
    :math:`x_{i+1} = x_i + \sum_k w_k d_{i-k}`."""

    def step(self, state: State, denoise: Denoise) -> State:
        denoised = denoise(state.x, state.sigma)
        if state.after == 0:
            return state.stepped(denoised)
        slopes = (*state.history[-(self.most(state) - 1) :], (state.x - denoised) / state.sigma)[-self.most(state) :]
        return state.stepped(state.x + weighted(slopes, self.weights(state, len(slopes))), slopes)

    def most(self, state: State) -> int:
        """How many slopes count, at most."""
        return 4

    def weights(self, state: State, count: int) -> list[float]:
        """How far to go along each of the last `count` slopes, latest last."""
        raise NotImplementedError


@dataclass(frozen=True)
class LMS(AdamsBashforth):
    r"""Linear multistep of an order for unequal steps: the polynomial through the last slopes, integrated exactly.

    .. math:: w_k = \int_{\sigma_i}^{\sigma_{i+1}} \prod_{j \ne k} \frac{s - \sigma_{i-j}}{\sigma_{i-k} - \sigma_{i-j}}
    \, ds
    """

    order: int = 4

    def most(self, state: State) -> int:
        return self.order

    def weights(self, state: State, count: int) -> list[float]:
        known = state.sigmas[state.index + 1 - count : state.index + 1].double().tolist()
        return [integral(known, place, float(state.sigma), float(state.after)) for place in range(count)]


@dataclass(frozen=True)
class IPNDM(AdamsBashforth):
    r"""Pseudo numerical methods (PNDM, arXiv 2202.09778, equation 9), started with lower orders (arXiv 2204.13902):
    the weights of Adams and Bashforth for equal steps, such as :math:`(55, -59, 37, -9) / 24`."""

    def weights(self, state: State, count: int) -> list[float]:
        table = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))
        return [weight * float(state.after - state.sigma) for weight in table[count - 1]]


@dataclass(frozen=True)
class IPNDMV(AdamsBashforth):
    r"""iPNDM for unequal steps: orders of 2 are exact for them; of the higher ones the correction is

    .. math:: t = \tfrac{1}{2} \left(1 - \frac{h_0}{3 (h_0 + h_1)} \frac{h_0 (h_0 + h_1)}{h_1 (h_1 + h_2)}\right), \quad
              h_k = \sigma_{i+1-k} - \sigma_{i-k}
    """

    def weights(self, state: State, count: int) -> list[float]:
        levels = state.sigmas.double()
        h = [float(levels[state.index + 1 - k] - levels[state.index - k]) for k in range(count)]
        if count == 1:
            return [h[0]]
        now, before = (2 + h[0] / h[1]) / 2, -(h[0] / h[1]) / 2
        if count == 2:
            return [h[0] * before, h[0] * now]
        whole = h[0] * (h[0] + h[1])
        ends = h[0] / (3 * (h[0] + h[1]))
        third = (1 - ends * whole / (h[1] * (h[1] + h[2]))) / 2
        ratio = h[1] / h[2]
        if count == 3:
            return [h[0] * third * ratio, h[0] * (before - (1 + ratio) * third), h[0] * (now + third)]
        fourth = ((1 - ends) / 2 + (1 - h[0] / (2 * (h[0] + h[1]))) * h[0] / (6 * (h[0] + h[1] + h[2]))) * (
            whole * (h[0] + h[1] + h[2]) / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
        )
        further = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
        return [
            -h[0] * fourth * further * ratio,
            h[0] * (third * ratio + (ratio + further * (1 + h[2] / h[3])) * fourth),
            h[0] * (before - (1 + ratio) * third - (1 + ratio + further) * fourth),
            h[0] * (now + third + fourth),
        ]


def integral(points: list[float], place: int, start: float, end: float) -> float:
    """Of the Lagrange polynomial that is 1 at one of the points and 0 at the others, from `start` to `end`."""
    here, product = points[place], [1.0]  # coefficients, that of the highest power last
    for other in points[:place] + points[place + 1 :]:
        lower = [value * -other for value in product] + [0.0]
        product = [(low + high) / (here - other) for low, high in zip(lower, [0.0, *product], strict=True)]
    return sum(value * (end ** (i + 1) - start ** (i + 1)) / (i + 1) for i, value in enumerate(product))
