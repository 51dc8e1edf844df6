"""One forward pass of a network: some rows in, their answers out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ..model.row import Row
from .attention import attention_of_passes

__all__ = ["Answers", "ForwardCall", "forward"]

Answers = dict[str, Tensor]
"""By the name of the output."""


@dataclass(frozen=True, slots=True, eq=False)
class ForwardCall:
    """The network that answers rows."""

    key: Hashable
    """Weights key with number format, and the patches of the call: equal keys, equal answers."""
    module: torch.nn.Module
    forward: Callable[[torch.nn.Module, dict[str, Tensor], tuple[Any, ...], dict[str, list[Tensor]]], Answers]
    around: Callable[[torch.nn.Module], AbstractContextManager[Any]] = nullcontext
    """The changes to the module for the time of a pass (patches of calls); it may give further answers."""
    is_changed: bool = False
    """Patches act inside the network for the time of a pass, or on single rows."""
    is_compiled: bool = False
    name: str = ""
    """The file and the part of the network, for people."""
    shares: bool = True
    """False: the rows of a pass mix, or the call holds foreign code, so a pass has the rows of one seat only."""


def forward(call: ForwardCall, rows: Sequence[Row], device: torch.device, free: Callable[[], bool]) -> Answers:
    """The answers of the network to the rows of one pass: tensors with a row axis.

    Where memory is short, `free` is called, and the pass is made again at the same size if it could free some; else a
    Problem is raised.
    """
    try:
        return _forward_once(call, rows, device)
    except (torch.OutOfMemoryError, MemoryError):
        if not free():
            raise _short(device, rows) from None
    try:
        return _forward_once(call, rows, device)
    except (torch.OutOfMemoryError, MemoryError):
        raise _short(device, rows) from None


@torch.inference_mode()
def _forward_once(call: ForwardCall, rows: Sequence[Row], device: torch.device) -> Answers:
    first = rows[0]
    stacked = {name: torch.stack([row.stacked[name] for row in rows]).to(device) for name in first.stacked}
    ragged = {name: [row.ragged[name].to(device) for row in rows] for name in first.ragged}
    form = nullcontext() if call.is_compiled else attention_of_passes(rows)
    with call.around(call.module) as inside, form:
        answers = call.forward(call.module, stacked, first.common, ragged)
        return {**answers, **inside} if isinstance(inside, Mapping) else dict(answers)


def _short(device: torch.device, rows: Sequence[Row]) -> GraphFlowError:
    shapes: Mapping[str, Any] = {name: tuple(tensor.shape) for name, tensor in rows[0].stacked.items()}
    largest = max(shapes.values(), key=lambda shape: len(shape) and torch.Size(shape).numel(), default=())
    return GraphFlowError(
        [
            Problem(
                "out_of_memory",
                f"{device} has too little memory for a pass of {len(rows)} rows of {' x '.join(map(str, largest))}",
                hint="use a smaller image or batch, --dtype bfloat16, or a smaller --memory, which pages the model",
            )
        ]
    )
