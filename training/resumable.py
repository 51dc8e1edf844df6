"""A training loop that resumes exactly: its state is a file, and its randomness is a function of the step.

The file holds the step, the weights, what the optimiser remembers and the averages of the weights. It is written whole
or not at all, every few minutes and at the end; a loop that was killed repeats what came after it, with the same bits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Course", "averaged", "steps_made", "train"]

M = TypeVar("M", bound=nn.Module)
SAVE_EVERY = 180.0
"""Seconds between two states on disk."""
SAY_EVERY = 50
"""Steps between two lines."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long, and how fast at each step: a linear rise, a constant rate, and a linear fall over the last steps."""

    steps: int
    rate: float
    rise: int = 200
    fall: float = 0.3
    """Share of all steps."""
    decay: float = 0.999
    """Of the averages of the weights."""

    def rate_at(self, step: int) -> float:
        falling = (self.steps - step) / max(1.0, self.fall * self.steps)
        return self.rate * min(1.0, (step + 1) / self.rise, max(0.01, falling))


def train(
    path: Path,
    module: nn.Module,
    course: Course,
    loss_at: Callable[[int], Tensor],
) -> None:
    """Make the steps that are left of a course. `loss_at(step)` draws its batch from generators of the step.

    `path`: the file of the state. It may be of fewer steps with another course: the rate then follows the new one.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=course.rate, weight_decay=1e-3, betas=(0.9, 0.99), fused=True)
    means = [weight.detach().clone() for weight in weights]
    first = _restore(path, module, optimiser, means) if path.exists() else 0
    began = saved = time.monotonic()
    mean = 0.0
    for step in range(first, course.steps):
        for group in optimiser.param_groups:
            group["lr"] = course.rate_at(step)
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
        if not torch.isfinite(norm):
            raise SystemExit(f"step {step}: the gradient is not a number, the rate is {course.rate_at(step):.1e}")
        optimiser.step()
        _average(means, weights, min(course.decay, (1 + step) / (10 + step)))
        mean = loss.item() if step == first else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % SAY_EVERY == 0:
            each = (time.monotonic() - began) / (step + 1 - first)
            left = each * (course.steps - step - 1) / 60
            speed = f"rate {course.rate_at(step):.1e}, {each:.2f} s each, {left:.0f} min left"
            print(f"{path.stem}: step {step + 1}, loss {mean:.4f}, {speed}", flush=True)
        if time.monotonic() - saved > SAVE_EVERY or step + 1 == course.steps:
            _save(path, step + 1, module, optimiser, means)
            saved = time.monotonic()


@torch.no_grad()
def _average(means: list[Tensor], weights: list[nn.Parameter], decay: float) -> None:
    torch._foreach_lerp_(means, [weight.detach() for weight in weights], 1 - decay)


def _named(module: nn.Module) -> list[str]:
    return [name for name, weight in module.named_parameters() if weight.requires_grad]


def _save(path: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, means: list[Tensor]) -> None:
    averages = dict(zip(_named(module), means, strict=True))
    state = {"step": step, "weights": module.state_dict(), "optimiser": optimiser.state_dict(), "averages": averages}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _restore(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, means: list[Tensor]) -> int:
    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["weights"])
    optimiser.load_state_dict(state["optimiser"])
    for name, mean in zip(_named(module), means, strict=True):
        mean.copy_(state["averages"][name])
    print(f"{path}: goes on after step {state['step']}", flush=True)
    return int(state["step"])


def steps_made(path: Path) -> int:
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"]) if path.exists() else 0


def averaged(path: Path, module: M) -> M:
    """The module with the averages of a state, to use."""
    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict({**state["weights"], **state["averages"]})
    return module.eval()
