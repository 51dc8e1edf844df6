"""The loop of a training inside a node: its state is data, so that a training that was killed goes on with the same
bits.

A step is one work item of its device, so a sampler that waits gets its turn after it. A step whose loss or gradient is
not a number changes nothing: the state before it is written as a file, and the training ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from graphflow import Context, GraphFlowError

from ..devices.use import Device
from .check_sets import too_few_problem
from .diverged import Diverged, diverged
from .optimisers import rate_at
from .options import LoopOptions
from .randomness import Batch, batches_of_epoch
from .state import Losses, State, is_finite

__all__ = ["Shown", "Task", "Trained", "check_data", "precision_of", "train"]

SAY_EVERY = 1.0
"""Seconds between two lines of text."""
LEAST_SCALE = 1.0
"""Of the loss in float16: gradients that are too large without any scale are not the scale's fault."""


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


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training ends with."""

    weights: dict[str, Tensor]
    """Those to use: the averages, where they are kept."""
    state: dict[str, Any]
    """Plain values to go on from, see `State.plain`."""
    losses: Losses


def check_data(data: Shown, options: LoopOptions) -> None:
    """Raises a Problem where there are fewer images than a batch."""
    if data.shown < options.batch_size:
        raise GraphFlowError([too_few_problem(data.shown, options.batch_size)])


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
    rates: Mapping[str, float] | None = None,
) -> Trained:
    """Make the steps. `start` is the state of a training that this one continues; `precision` a number format in which
    the network computes, where that is not its own; `rates` those of parameters that learn with another than
    `options.learning_rate`.

    Raises Cancelled, and a Problem where the loss is no longer a number: it names the file of the last good state.
    """
    scaler = torch.amp.GradScaler(device.device.type) if precision == torch.float16 else None
    state = State(parameters, options, rates or {}, scaler)
    first = 0 if start is None else int(start["step"])
    stored = context.restore() or start
    if stored is not None:
        state.restore(stored)
    total = first + options.steps
    order = _Order(data, options)
    if options.steps:
        context.progress(state.step - first, options.steps)
    began, said, made = time.monotonic(), 0.0, 0
    while state.step < total:
        context.check_cancelled()
        try:
            device.run(_step, state, objective, order.batches(state.step), options, total, precision, device.device)
            if validation is not None and options.validate_every and state.step % options.validate_every == 0:
                state.losses.validation.append((state.step, device.run(objective.fixed, validation)))
            context.keep(lambda: _good(state, options, total))
        except Diverged as error:
            raise diverged(error, state, context, stored) from None
        made += 1
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
    named = {"bf16": torch.bfloat16, "fp16": torch.float16}
    halves = tuple(named.values())
    return named.get(stated) or (dtype if stated == "auto" and dtype in halves else None)


def _good(state: State, options: LoopOptions, total: int) -> dict[str, Any]:
    """The state, to be kept. Raises Diverged where the last step made numbers that are not finite."""
    if not is_finite(state.parameters.values()):
        at = state.step - 1
        raise Diverged("a weight", at, options.learning_rate * rate_at(options.schedule, at, total, options.warmup))
    return state.plain()


def _step(
    state: State,
    objective: Task[Any],
    batches: Sequence[Batch],
    options: LoopOptions,
    total: int,
    precision: torch.dtype | None,
    device: torch.device,
) -> None:
    """One step on the thread of the device. Raises Diverged; then nothing has changed."""
    count, loss, scaler = sum(map(len, batches)), 0.0, state.scaler
    state.optimiser.zero_grad(set_to_none=True)
    with torch.enable_grad(), torch.inference_mode(False):
        for batch in batches:
            with torch.autocast(device.type, precision, enabled=precision is not None):
                part = objective.sum(batch, state.step) / count
            (part if scaler is None else scaler.scale(part)).backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
    course = rate_at(options.schedule, state.step, total, options.warmup)
    if not math.isfinite(loss):
        raise Diverged("the loss", state.step, options.learning_rate * course)
    if scaler is not None:
        scaler.unscale_(state.optimiser)
    if options.max_grad_norm:
        norm = float(torch.nn.utils.clip_grad_norm_(list(state.parameters.values()), options.max_grad_norm))
        # With a scale, a gradient may be too large for float16: the scaler leaves the step out and takes a smaller one.
        if not math.isfinite(norm) and (scaler is None or scaler.get_scale() < LEAST_SCALE):
            raise Diverged("a gradient", state.step, options.learning_rate * course)
    for group, rate in zip(state.optimiser.param_groups, state.rates, strict=True):
        group["lr"] = rate * course
    if scaler is None:
        state.optimiser.step()
    else:
        scaler.step(state.optimiser)
        scaler.update()
    state.step += 1
    state.losses.training.append(loss)
    if state.averages:
        state.average()


class _Order:
    """The batches of each step, as functions of it: an epoch ends in the middle of a step where it must."""

    def __init__(self, data: Shown, options: LoopOptions) -> None:
        self._buckets, self._options = data.buckets, options
        self._each = len(self._epoch(0))
        self._last: tuple[int, tuple[Batch, ...]] | None = None

    def batches(self, step: int) -> list[Batch]:
        found = []
        for number in range(step * self._options.accumulation, (step + 1) * self._options.accumulation):
            epoch, at = divmod(number, self._each)
            if self._last is None or self._last[0] != epoch:
                self._last = (epoch, self._epoch(epoch))
            found.append(self._last[1][at])
        return found

    def _epoch(self, number: int) -> tuple[Batch, ...]:
        return batches_of_epoch(self._buckets, self._options.batch_size, self._options.seed, number)
