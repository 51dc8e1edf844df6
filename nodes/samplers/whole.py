"""Samplers whose whole run is one step for us: they begin with a clean latent and its noise and report steps of their
own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .stepper import Stepper

__all__ = ["Outset", "WholeRun"]


@dataclass(frozen=True, eq=False)
class Outset:
    """A run before its first step."""

    latent: Tensor
    """Clean, [B, C, h, w], model unit; zeros for an empty one."""
    noise: Tensor
    """Standard normal, of the same shape; zeros where none is added."""
    on_step: Callable[[int, Tensor, Tensor], None]
    """(steps that are done, the clean latent that the last one went towards, x after it); raises to stop the run."""


@runtime_checkable
class WholeRun(Protocol):
    """A stepper that has to know where a run begins."""

    def setting_out(self, outset: Outset) -> Stepper: ...
