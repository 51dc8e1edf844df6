"""A sampler as an explicit state and one step on it, so that a run can be saved after any step and go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class State:
    """x at sigmas[index]; `history` holds earlier denoised images, latest last; `rng` the CPU generator's state."""

    x: Tensor
    sigmas: Tensor
    index: int = 0
    history: tuple[Tensor, ...] = ()
    rng: Tensor | None = None

    @property
    def done(self) -> bool:
        return self.index >= len(self.sigmas) - 1

    @property
    def sigma(self) -> Tensor:
        """The noise level of x."""
        return self.sigmas[self.index]

    @property
    def after(self) -> Tensor:
        """The noise level that the next step leads to."""
        return self.sigmas[self.index + 1]

    def log_step(self, back: int = 0) -> Tensor:
        """How far the next step goes down in log sigma, or that of so many steps before it."""
        return (self.sigmas[self.index - back] / self.sigmas[self.index - back + 1]).log()

    def stepped(self, x: Tensor, history: tuple[Tensor, ...] = (), rng: Tensor | None = None) -> State:
        """One step on."""
        return replace(self, x=x, index=self.index + 1, history=history, rng=self.rng if rng is None else rng)

    def to_tensors(self) -> dict[str, Tensor]:
        """Named tensors as safetensors stores them; `from_tensors` gives back the same bits."""
        tensors = {"x": self.x.contiguous(), "sigmas": self.sigmas.contiguous(), "index": torch.tensor([self.index])}
        tensors |= {f"history.{i}": past.contiguous().clone() for i, past in enumerate(self.history)}
        return tensors if self.rng is None else {**tensors, "rng": self.rng}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> State:
        count = sum(name.startswith("history.") for name in tensors)
        history = tuple(tensors[f"history.{i}"] for i in range(count))
        return cls(tensors["x"], tensors["sigmas"], int(tensors["index"]), history, tensors.get("rng"))


class Stepper(Protocol):
    def begin(self, x: Tensor, sigmas: Tensor, seed: int) -> State: ...

    def step(self, state: State, denoise: Denoise) -> State: ...


def draw(state: State) -> tuple[Tensor, Tensor]:
    """Noise of the shape of x from the state's generator, and the generator's state after it."""
    assert state.rng is not None
    generator = torch.Generator()
    generator.set_state(state.rng)
    noise = torch.randn(state.x.shape, generator=generator, dtype=state.x.dtype).to(state.x.device)
    return noise, generator.get_state()


def under_noise(state: State, x: Tensor, deviation: Tensor) -> State:
    """One step on, with fresh noise on x."""
    noise, rng = draw(state)
    return state.stepped(x + noise * deviation, rng=rng)


def weighted(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor | float:
    """The sum of the terms, each by its weight; 0 for none."""
    return sum((weight * term for weight, term in zip(weights, terms, strict=True)), start=0.0)


def ancestral(sigma: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """The lower sigma to step down to, and the noise to add then, of the DDIM family with eta = 1
    (arXiv 2010.02502, equation 16)."""
    up = (after**2 * (sigma**2 - after**2) / sigma**2).sqrt().clamp(max=after)
    return (after**2 - up**2).sqrt(), up


class Deterministic:
    def begin(self, x: Tensor, sigmas: Tensor, seed: int) -> State:
        return State(x, sigmas)


class Stochastic:
    def begin(self, x: Tensor, sigmas: Tensor, seed: int) -> State:
        return State(x, sigmas, rng=torch.Generator().manual_seed(seed).get_state())
