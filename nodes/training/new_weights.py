r"""Weights to begin a training with: of each layer as torch draws them, but as a function of (seed, part, name).

.. math:: W, b \sim U(-1 / \sqrt{n}, 1 / \sqrt{n}) \text{ (Linear and convolutions, n inputs)}, \quad
          E \sim N(0, 0.02^2) \text{ (embeddings)}, \quad 1 \text{ and } 0 \text{ (norms)}
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..files.write_model import TensorEntry
from .randomness import generator

__all__ = ["new_entries", "new_weight"]

EMBEDDING = 0.02
"""Deviation of the vectors of embeddings, as CLIP's are drawn."""
_NORMS = ("LayerNorm", "GroupNorm", "RMSNorm")


def new_entries(module: nn.Module, seed: int, part: str) -> list[TensorEntry]:
    """The tensors of an empty network (on the `meta` device), in its own names."""
    return [
        TensorEntry(name, "F32", tuple(weight.shape), partial(new_weight, owner, name, tuple(weight.shape), seed, part))
        for name, owner, weight in _weights(module)
    ]


def _weights(module: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    for prefix, owner in module.named_modules():
        for name, weight in owner.named_parameters(recurse=False):
            yield f"{prefix}.{name}" if prefix else name, owner, weight


def new_weight(owner: nn.Module, name: str, shape: tuple[int, ...], seed: int, part: str) -> Tensor:
    """float32. `owner` is the layer that has it."""
    kind, last = type(owner).__name__, name.rpartition(".")[2]
    if any(norm in kind for norm in _NORMS):
        return torch.ones(shape) if last == "weight" else torch.zeros(shape)
    drawn = generator(seed, "weights", part, name)
    if isinstance(owner, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        kernel = owner.kernel_size if not isinstance(owner, nn.Linear) else ()
        inputs: Any = owner.in_features if isinstance(owner, nn.Linear) else owner.in_channels // owner.groups
        bound = 1 / math.sqrt(inputs * math.prod(kernel))
        return torch.empty(shape).uniform_(-bound, bound, generator=drawn)
    return EMBEDDING * torch.randn(shape, generator=drawn)
