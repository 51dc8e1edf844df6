"""Networks that act within another one, while it answers: rows carry what they see, and hooks let them act."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..model.row import Row

__all__ = ["carrying", "forward_with_networks"]

PREFIX = "within."
"""Of the names in `Row.stacked` of what such networks see: `within.0.hint` is that of the first one."""
Forward = Callable[..., dict[str, Tensor]]


def carrying(row: Row, given: Sequence[Mapping[str, Tensor]]) -> Row:
    """The row with what each network sees."""
    more = {f"{PREFIX}{number}.{name}": tensor for number, one in enumerate(given) for name, tensor in one.items()}
    return replace(row, stacked={**row.stacked, **more})


def forward_with_networks(forward: Forward, networks: Sequence[tuple[Any, torch.nn.Module]]) -> Forward:
    """`forward` of a network within which others act: (the functions of its family, its module) each."""

    def call(
        module: torch.nn.Module, stacked: dict[str, Tensor], common: tuple[Any, ...], ragged: dict[str, list[Tensor]]
    ) -> dict[str, Tensor]:
        plain = {name: tensor for name, tensor in stacked.items() if not name.startswith(PREFIX)}
        with ExitStack() as stack, torch.inference_mode():
            for number, (net, network) in enumerate(networks):
                begin = f"{PREFIX}{number}."
                given = {key.removeprefix(begin): one for key, one in stacked.items() if key.startswith(begin)}
                stack.enter_context(net.within(module, network, given))
            return forward(module, plain, common, ragged)

    return call
