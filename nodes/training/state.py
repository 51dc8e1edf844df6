"""The state of a training as data, so that a training that was killed goes on with the same bits.

The state is weights, what the optimiser and the scaler of the loss remember, the average of the weights, the number of
steps made and the losses so far. Everything else (order, noise, levels, the learning rate) is a function of the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from .optimisers import make_optimiser, restore_state, state_of
from .options import LoopOptions

__all__ = ["Losses", "State", "is_finite"]


@dataclass(slots=True)
class Losses:
    """One number a step, and those of the validation."""

    training: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    """(steps made, mean loss)."""


class State:
    """The weights that learn, and all that the next step depends on."""

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        options: LoopOptions,
        rates: Mapping[str, float],
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        """`rates`: those of parameters that learn with another than `options.learning_rate`."""
        stated = {name: rates.get(name, options.learning_rate) for name in parameters}
        self.rates = tuple(dict.fromkeys(stated.values()))
        """Of each group of the optimiser."""
        self.parameters = dict(parameters)
        groups = [[weight for name, weight in parameters.items() if stated[name] == rate] for rate in self.rates]
        self.optimiser = make_optimiser(options.optimiser, groups, options.weight_decay, options.beta2)
        self.scaler = scaler
        self.decay = options.ema_decay
        self.averages = {name: weight.detach().clone() for name, weight in parameters.items()} if self.decay else {}
        self.step = 0
        self.losses = Losses()

    def plain(self) -> dict[str, Any]:
        """Plain values, which share their memory with the state: to be written, or used, before the next step."""
        return {
            "step": self.step,
            "weights": {name: _shown(weight) for name, weight in self.parameters.items()},
            "optimiser": {
                number: {key: _shown(one) for key, one in values.items()}
                for number, values in state_of(self.optimiser).items()
            },
            "averages": {name: _shown(average) for name, average in self.averages.items()},
            "scaler": dict(self.scaler.state_dict()) if self.scaler is not None else None,
            "training": list(self.losses.training),
            "validation": [list(pair) for pair in self.losses.validation],
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Go on from plain values, which stay as they are. Raises a Problem where they belong to other weights."""
        if stored["weights"].keys() != self.parameters.keys() or any(
            stored["weights"][name].shape != weight.shape for name, weight in self.parameters.items()
        ):
            message = "the state is of a training of other weights (another model, rank or targets)"
            raise GraphFlowError([Problem("wrong_state", message, input="state", hint="go on with the same options")])
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(stored["weights"][name])
            for name, average in self.averages.items():
                average.copy_(stored["averages"].get(name, stored["weights"][name]))
        restore_state(self.optimiser, stored["optimiser"])
        if self.scaler is not None and stored.get("scaler"):
            self.scaler.load_state_dict(dict(stored["scaler"]))
        self.step = int(stored["step"])
        self.losses = Losses(list(stored["training"]), [(int(at), float(loss)) for at, loss in stored["validation"]])

    def final(self) -> dict[str, Tensor]:
        """The weights to use: the averages, where they are kept."""
        return {name: _shown(one) for name, one in (self.averages or self.parameters).items()}

    @torch.no_grad()
    def average(self) -> None:
        """With a decay that rises to its value, so that early weights are forgotten: min(d, (1 + n) / (10 + n))."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        weights: list[Tensor] = [self.parameters[name] for name in self.averages]
        torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)


def is_finite(weights: Iterable[Tensor]) -> bool:
    """Whether all numbers are."""
    return all(bool(weight.isfinite().all()) for weight in weights)


def _shown(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value
