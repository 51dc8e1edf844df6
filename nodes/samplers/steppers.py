"""Samplers, each one step long. x is the noisy latent, D = denoise(x, sigma), d = (x - D) / sigma."""

from __future__ import annotations

from torch import Tensor

from .stepper import Denoise, State, Stepper

__all__ = ["SAMPLERS"]


def euler(state: State, denoise: Denoise) -> State:
    """Euler on the probability flow ODE (arXiv 2206.00364, algorithm 1 without its correction).
    DDIM with eta 0 (arXiv 2010.02502, eq. 12) is the same step, written in sigma."""
    denoised = denoise(state.x, state.sigma)
    d = (state.x - denoised) / state.sigma
    return state.moved(state.x + d * (state.next_sigma - state.sigma))


def ancestral(sigma: Tensor, next_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Down to sigma_down without noise, then back up with sigma_up of fresh noise, so that the variances add up
    to next_sigma^2 (the posterior variance of arXiv 2006.11239, eq. 7, in sigma)."""
    up = (next_sigma**2 * (sigma**2 - next_sigma**2) / sigma**2).sqrt().minimum(next_sigma)
    return (next_sigma**2 - up**2).sqrt(), up


def euler_ancestral(state: State, denoise: Denoise) -> State:
    """Euler to sigma_down, then sigma_up of noise."""
    denoised = denoise(state.x, state.sigma)
    if state.next_sigma == 0:
        return state.moved(denoised)
    down, up = ancestral(state.sigma, state.next_sigma)
    d = (state.x - denoised) / state.sigma
    x = state.x + d * (down - state.sigma)
    noise, state = state.noise()
    return state.moved(x + up * noise)


def dpmpp_2m(state: State, denoise: Denoise) -> State:
    """DPM-Solver++(2M), arXiv 2211.01095, algorithm 2, with lambda = -log sigma. History: the last D."""
    denoised = denoise(state.x, state.sigma)
    if state.next_sigma == 0:
        return state.moved(denoised, (denoised,))
    h = state.sigma.log() - state.next_sigma.log()
    guess = denoised
    if state.history:
        last_h = state.sigmas[state.index - 1].log() - state.sigma.log()
        r = last_h / h
        guess = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * state.history[0]
    x = state.next_sigma / state.sigma * state.x - (-h).expm1() * guess
    return state.moved(x, (denoised,))


def ddpm(state: State, denoise: Denoise) -> State:
    """One draw of the DDPM posterior (arXiv 2006.11239, algorithm 2), in the variance preserving scale."""
    denoised = denoise(state.x, state.sigma)
    noise_part = (state.x - denoised) / state.sigma
    a, next_a = 1 / (state.sigma**2 + 1), 1 / (state.next_sigma**2 + 1)
    alpha = a / next_a
    y = state.x / (1 + state.sigma**2).sqrt()
    mean = (y - (1 - alpha) * noise_part / (1 - a).sqrt()) / alpha.sqrt()
    if state.next_sigma == 0:
        return state.moved(mean)
    noise, state = state.noise()
    y = mean + ((1 - alpha) * (1 - next_a) / (1 - a)).sqrt() * noise
    return state.moved(y * (1 + state.next_sigma**2).sqrt())


SAMPLERS: dict[str, Stepper] = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "ddpm": ddpm,
    "ddim": euler,
}
