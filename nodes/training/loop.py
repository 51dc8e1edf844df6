"""The loop of a training inside a node: its state is data, so that a training that was killed goes on with the same
bits.

The state is weights, what the optimiser remembers, the average of the weights, the number of steps made and the losses
so far; everything else (order, noise, levels, the learning rate) is a function of the step. A step is one work item of
its device, so a sampler that waits gets its turn after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from graphflow import Context, GraphFlowError, Problem

from ..devices.use import Device
from .optimisers import make_optimiser, rate_at, restore_state, state_of
from .options import LoopOptions
from .randomness import Batch, batches_of_epoch

__all__ = ["Losses", "Shown", "Task", "Trained", "check_data", "precision_of", "train"]

SAY_EVERY = 1.0
"""Seconds between two lines of text."""


class Shown(Protocol):
    """What is learnt from: the loop knows of it how many examples there are and which may share a batch."""

    @property
    def buckets(self) -> tuple[tuple[Hashable, int], ...]:
        """The bucket of each example, and how often an epoch shows it."""

    @property
    def shown(self) -> int:
        """Examples of an epoch."""


Set = TypeVar("Set", bound=Shown)
_Validated = TypeVar("_Validated", bound=Shown, contravariant=True)


class Task(Protocol[_Validated]):
    """What is learnt: losses with gradients."""

    def sum(self, numbers: Sequence[int], step: int) -> Tensor:
        """The losses of examples at a step, added up."""

    def fixed(self, data: _Validated, levels: int = 4) -> float:
        """The mean loss over a data set, the same each time but for the weights."""


@dataclass(slots=True)
class Losses:
    """One number a step, and those of the validation."""

    training: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    """(steps made, mean loss)."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training ends with."""

    weights: dict[str, Tensor]
    """Those to use: the averages, where they are kept."""
    state: dict[str, Any]
    """Plain values to go on from, see `_State.plain`."""
    losses: Losses


def check_data(data: Shown, options: LoopOptions) -> None:
    """Raises a Problem where there are fewer images than a batch."""
    if data.shown < options.batch_size:
        message = f"an epoch shows {data.shown} images, which is less than a batch of {options.batch_size}"
        hint = f"set batch_size to {data.shown} or less, or raise repeats"
        raise GraphFlowError([Problem("too_few_images", message, input="batch_size", hint=hint)])


def train(
    context: Context,
    device: Device,
    parameters: Mapping[str, torch.nn.Parameter],
    objective: Task[Set],
    data: Set,
    options: LoopOptions,
    start: Mapping[str, Any] | None = None,
    validation: Set | None = None,
    precision: torch.dtype | None = None,
) -> Trained:
    """Make the steps. `start` is the state of a training that this one continues; `precision` a number format in which
    the network computes, where that is not its own.

    Raises Cancelled, and a Problem where the loss is no longer a number: the state before it is kept.
    """
    state = _State(parameters, options)
    first = 0 if start is None else int(start["step"])
    stored = context.restore() or start
    if stored is not None:
        state.restore(stored)
    total = first + options.steps
    context.progress(state.step - first, options.steps)
    began, said, made = time.monotonic(), 0.0, 0
    while state.step < total:
        context.check_cancelled()
        device.run(_step, state, objective, data, options, total, precision, device.device)
        if validation is not None and options.validate_every and state.step % options.validate_every == 0:
            loss = device.run(objective.fixed, validation)
            state.losses.validation.append((state.step, loss))
        made += 1
        context.keep(state.plain)
        context.progress(state.step - first, options.steps)
        now = time.monotonic()
        if now - said >= SAY_EVERY or state.step == total:
            said, left = now, (now - began) / made * (total - state.step)
            rate = options.learning_rate * rate_at(options.schedule, state.step - 1, total, options.warmup)
            loss = sum(state.losses.training[-50:]) / len(state.losses.training[-50:])
            context.say(f"step {state.step} of {total}, loss {loss:.4f}, rate {rate:.2e}, {left:.0f} s left")
    return Trained(state.final(), state.plain(), state.losses)


def precision_of(stated: str, dtype: torch.dtype) -> torch.dtype | None:
    """The number format of products by the option `mixed_precision`, where it is not that of the weights that learn;
    `dtype` is the device's own."""
    return torch.bfloat16 if stated == "bf16" or (stated == "auto" and dtype == torch.bfloat16) else None


def _copy(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


class _State:
    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], options: LoopOptions) -> None:
        self.parameters = dict(parameters)
        self.optimiser = make_optimiser(options.optimiser, list(self.parameters.values()), options.weight_decay)
        self.decay = options.ema_decay
        self.averages = (
            {name: weight.detach().clone() for name, weight in self.parameters.items()} if self.decay else {}
        )
        self.step = 0
        self.losses = Losses()

    def plain(self) -> dict[str, Any]:
        """Copies: the training goes on while they are written."""

        def copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: _copy(weight) for name, weight in weights.items()}

        return {
            "step": self.step,
            "weights": copies(self.parameters),
            "optimiser": {
                number: {
                    key: one.detach().cpu().clone() if isinstance(one, Tensor) else one for key, one in values.items()
                }
                for number, values in state_of(self.optimiser).items()
            },
            "averages": copies(self.averages),
            "training": list(self.losses.training),
            "validation": [list(pair) for pair in self.losses.validation],
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
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
        self.step = int(stored["step"])
        self.losses = Losses(list(stored["training"]), [(int(at), float(loss)) for at, loss in stored["validation"]])

    def final(self) -> dict[str, Tensor]:
        return {name: _copy(one) for name, one in (self.averages or self.parameters).items()}

    @torch.no_grad()
    def average(self) -> None:
        """With a decay that rises to its value, so that early weights are forgotten: min(d, (1 + n) / (10 + n))."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, average in self.averages.items():
            average.lerp_(self.parameters[name], 1 - decay)


def _step(
    state: _State,
    objective: Task[Any],
    data: Shown,
    options: LoopOptions,
    total: int,
    precision: torch.dtype | None,
    device: torch.device,
) -> None:
    """One step on the thread of the device."""
    batches = _batches(data, options, state.step)
    count, loss = sum(map(len, batches)), 0.0
    state.optimiser.zero_grad(set_to_none=True)
    with torch.enable_grad(), torch.inference_mode(False):
        for batch in batches:
            with torch.autocast(device.type, precision, enabled=precision is not None):
                part = objective.sum(batch, state.step) / count
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
    rate = options.learning_rate * rate_at(options.schedule, state.step, total, options.warmup)
    _check_finite(loss, "the loss", state.step, rate)
    if options.max_grad_norm:
        norm = torch.nn.utils.clip_grad_norm_(list(state.parameters.values()), options.max_grad_norm)
        _check_finite(float(norm), "a gradient", state.step, rate)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    state.step += 1
    state.losses.training.append(loss)
    if state.averages:
        state.average()


def _batches(data: Shown, options: LoopOptions, step: int) -> list[Batch]:
    """Those of a step, as functions of it: an epoch ends in the middle of a step where it must."""
    found = []
    for number in range(step * options.accumulation, (step + 1) * options.accumulation):
        each = len(batches_of_epoch(data.buckets, options.batch_size, options.seed, 0))
        epoch, at = divmod(number, each)
        found.append(batches_of_epoch(data.buckets, options.batch_size, options.seed, epoch)[at])
    return found


def _check_finite(value: float, what: str, step: int, rate: float) -> None:
    if not math.isfinite(value):
        message = f"{what} is not a number at step {step + 1}, with a learning rate of {rate:.2e}"
        hint = (
            "lower learning_rate; to keep what was learnt, train fewer steps, and link their state to a second training"
        )
        raise GraphFlowError([Problem("training_diverged", message, input="learning_rate", hint=hint)])
