r"""A sampler as an explicit state and one step on it, so that a run can be saved after any step and go on with the same
bits.

Steppers walk down the levels of :math:`x = \alpha x_0 + \sigma n`, where :math:`\alpha` is 1, or :math:`1 - \sigma` for
flow models. Many formulas are short in half the logarithm of the signal-to-noise ratio:

.. math:: \lambda(\sigma) = \ln (\alpha / \sigma)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..model.prediction import Prediction

__all__ = [
    "Answered",
    "Denoise",
    "Deterministic",
    "State",
    "Stepper",
    "Stochastic",
    "ancestral",
    "ancestral_flow",
    "draw",
    "unguided",
    "under_noise",
    "weighted",
]


class Answered(Protocol):
    """The answer to one question, with that of each side of guidance."""

    @property
    def guided(self) -> Tensor: ...

    @property
    def x0(self) -> Mapping[str, Tensor]:
        """By side: `positive`, and `negative` where it was asked."""


class Denoise(Protocol):
    """The model as a sampler asks it."""

    def __call__(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Tensor:
        """The clean latent at x under noise of the level `sigma`. `to` is the level that the step leads to; by default
        the next lower one of the schedule."""

    def answer(self, x: Tensor, sigma: Tensor, to: Tensor | None = None) -> Answered:
        """The same with every side's answer."""


@dataclass(frozen=True, eq=False)
class State:
    """x at sigmas[index]; `history` holds what a method remembers, latest last; `rng` the CPU generator's state."""

    x: Tensor
    sigmas: Tensor
    index: int = 0
    history: tuple[Tensor, ...] = ()
    rng: Tensor | None = None
    flow: bool = False
    """The weight of the clean latent is 1 - sigma; else 1."""
    numbers: tuple[float, ...] = ()
    """The counters of a method, such as the size of its next step."""

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

    def alpha(self, sigma: Tensor) -> Tensor:
        """The weight of the clean latent at a level."""
        return 1 - sigma if self.flow else torch.ones_like(sigma)

    def half_log_snr(self, sigma: Tensor) -> Tensor:
        r""":math:`\lambda = \ln(\alpha / \sigma)`"""
        return -sigma.logit() if self.flow else -sigma.log()

    def level(self, half_log_snr: Tensor) -> Tensor:
        """The noise level of a lambda."""
        return (-half_log_snr).sigmoid() if self.flow else (-half_log_snr).exp()

    def log_step(self, back: int = 0) -> Tensor:
        """How far the next step goes up in lambda, or that of so many steps before it."""
        here, next_ = self.sigmas[self.index - back], self.sigmas[self.index - back + 1]
        return self.half_log_snr(next_) - self.half_log_snr(here)

    def stepped(self, x: Tensor, history: tuple[Tensor, ...] = (), rng: Tensor | None = None) -> State:
        """One step on."""
        return replace(self, x=x, index=self.index + 1, history=history, rng=self.rng if rng is None else rng)

    def to_tensors(self) -> dict[str, Tensor]:
        """Named tensors as safetensors stores them; `from_tensors` gives back the same bits."""
        tensors = {"x": self.x.contiguous(), "sigmas": self.sigmas.contiguous(), "index": torch.tensor([self.index])}
        tensors |= {f"history.{i}": past.contiguous().clone() for i, past in enumerate(self.history)}
        tensors |= {"numbers": torch.tensor(self.numbers, dtype=torch.float64), "flow": torch.tensor([self.flow])}
        return tensors if self.rng is None else {**tensors, "rng": self.rng}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> State:
        return cls(
            x=tensors["x"],
            sigmas=tensors["sigmas"],
            index=int(tensors["index"]),
            history=tuple(tensors[f"history.{i}"] for i in range(sum(name.startswith("history.") for name in tensors))),
            rng=tensors.get("rng"),
            flow=bool(tensors["flow"]),
            numbers=tuple(tensors["numbers"].tolist()),
        )


class Stepper(Protocol):
    """A frozen, hashable value: a method and its options."""

    @property
    def needs_negative(self) -> bool:
        """It asks for the negative side even where the weight of guidance is 1 (CFG++)."""

    def identity(self) -> Any:
        """Plain Python, equal for equal methods with equal options."""

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        """The state before the first step. x [B, C, ...] float32, model unit, at the level sigmas[0]; `sigmas` fall, on
        the CPU. Without a prediction the latent keeps weight 1 under noise."""

    def step(self, state: State, denoise: Denoise) -> State: ...


class _Method:
    """The base of all steppers: frozen dataclasses whose fields are their options."""

    @property
    def needs_negative(self) -> bool:
        return False

    def identity(self) -> list[Any]:
        return [type(self).__name__, *([f.name, getattr(self, f.name)] for f in fields(self))]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Deterministic(_Method):
    """A method without noise of its own."""

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        return State(x, sigmas, flow=is_flow(prediction))


@dataclass(frozen=True)
class Stochastic(_Method):
    """A method that adds noise of a generator of its own, seeded by the run's seed: one draw a use."""

    def begin(self, x: Tensor, sigmas: Tensor, seed: int, prediction: Prediction | None = None) -> State:
        rng = torch.Generator().manual_seed(seed).get_state()
        return State(x, sigmas, rng=rng, flow=is_flow(prediction))


def is_flow(prediction: Prediction | None) -> bool:
    """The clean latent has the weight 1 - sigma."""
    return prediction is not None and float(prediction.signal(torch.tensor(0.5))) == 0.5


def below_1(sigmas: Tensor, prediction: Prediction | None) -> Tensor:
    """The levels with a first one of 1, where a flow has an infinite lambda, replaced by that at a share of 0.0001."""
    if not is_flow(prediction) or prediction is None or not len(sigmas) or float(sigmas[0]) < 1:
        return sigmas
    return torch.cat([sigmas.new_tensor([prediction.at(1e-4)]), sigmas[1:]])


def draw(state: State) -> tuple[Tensor, Tensor]:
    """Noise of the shape of x from the state's generator, and the generator's state after it."""
    assert state.rng is not None
    generator = torch.Generator()
    generator.set_state(state.rng)
    noise = torch.randn(state.x.shape, generator=generator, dtype=state.x.dtype).to(state.x.device)
    return noise, generator.get_state()


def under_noise(state: State, x: Tensor, deviation: Tensor | float, history: tuple[Tensor, ...] = ()) -> State:
    """One step on, with fresh noise on x."""
    noise, rng = draw(state)
    return state.stepped(x + noise * deviation, history, rng=rng)


def weighted(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor | float:
    """The sum of the terms, each by its weight; 0 for none."""
    return sum((weight * term for weight, term in zip(weights, terms, strict=True)), start=0.0)


def unguided(answer: Answered) -> Tensor:
    """The answer without the prompt: the negative side's, or the guided one where no negative was asked."""
    return answer.x0.get("negative", answer.guided)


def ancestral(sigma: Tensor, after: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""The lower level to step down to, and the deviation of the noise to add then (DDIM, arXiv 2010.02502, equation
    16).

    .. math:: up = \min\left(after, \eta \sqrt{after^2 (\sigma^2 - after^2) / \sigma^2}\right), \quad
              down = \sqrt{after^2 - up^2}

    `sigma` may be infinite.
    """
    if eta == 0:
        return after, torch.zeros_like(after)
    share = (after**2 * (sigma**2 - after**2) / sigma**2).sqrt() if sigma.isfinite() else after
    up = (eta * share).clamp(max=after)
    return (after**2 - up**2).sqrt(), up


def ancestral_flow(sigma: Tensor, after: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    r"""The same for flow: the lower level, the factor of x at it, and the deviation of the noise to add then.

    .. math:: down = after \, (1 + (after / \sigma - 1) \eta), \quad factor = \frac{1 - after}{1 - down}, \quad
              up = \sqrt{after^2 - down^2 factor^2}
    """
    down = after * (1 + (after / sigma - 1) * eta)
    factor = (1 - after) / (1 - down)
    return down, factor, (after**2 - down**2 * factor**2).sqrt()
