r"""Layers that stay as they are, and small terms beside them that learn; one class for each kind.

| kind | W' | learns |
|---|---|---|
| LoRA (arXiv 2106.09685) | :math:`W + s \, U D` | D [r, in]; U [out, r], 0 at first |
| DoRA (arXiv 2402.09353, 5) | :math:`m \, V / \|V\|, V = W + s \, U D` | D, U; m [out], :math:`\|W\|` at first |
| LoKr (arXiv 2309.14859, 3.3) | :math:`W + s \, A \otimes B` | A; B whole or as a product, 0 at first |

s is alpha / r; a LoKr whose B is whole has s = 1. Norms are those of rows (one number for each output). Gradients of
DoRA take :math:`\|V\|` for a constant (section 4.3 of the paper). Of a convolution, D and B are convolutions of its
shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .options import ALGORITHMS
from .randomness import normal

__all__ = ["KINDS", "Dora", "Lokr", "LowRank", "Term"]


class Term(nn.Module):
    """A layer, and the parameters beside it (float32), which are named by `roles`."""

    roles: ClassVar[tuple[str, ...]]

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.rank, self.alpha = base, rank, alpha

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def learning(self) -> dict[str, nn.Parameter]:
        """Role -> parameter."""
        found = {role: getattr(self, role, None) for role in self.roles}
        return {role: one for role, one in found.items() if one is not None}

    def file_roles(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a LORA_MODEL holds of the layer, where its parameters have these values."""
        return dict(weights)


class LowRank(Term):
    """LoRA. Of a convolution U is one of 1 x 1."""

    roles = ("down", "up")

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float, seed: int, name: str) -> None:
        shape, device = base.weight.shape, base.weight.device
        least = min(rank, shape[0], math.prod(shape[1:]))
        super().__init__(base, least, alpha / rank * least)
        down = normal((least, *shape[1:]), seed, "start", name) / math.sqrt(math.prod(shape[1:]))
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(shape[0], least, *(1,) * (len(shape) - 2), device=device))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.base(x)
        x = x.to(self.down.dtype)
        if isinstance(self.base, nn.Conv2d):
            change = F.conv2d(_convolved(self.base, x, self.down), self.up)
        else:
            change = F.linear(F.linear(x, self.down), self.up)
        return answer + (self.scale * change).to(answer.dtype)


class Dora(LowRank):
    """DoRA: the directions of rows change by low-rank terms, their lengths by a number each."""

    roles = ("down", "up", "magnitude")

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float, seed: int, name: str) -> None:
        super().__init__(base, rank, alpha, seed, name)
        self.magnitude = nn.Parameter(_lengths(base.weight.detach().float()))

    def forward(self, x: Tensor) -> Tensor:
        moved = self._moved(self.down, self.up)
        weight = (moved * _by_row(self.magnitude / _lengths(moved.detach()), moved)).to(x.dtype)
        if isinstance(self.base, nn.Conv2d):
            return _convolved(self.base, x, weight, self.base.bias)
        return F.linear(x, weight, self.base.bias)

    def _moved(self, down: Tensor, up: Tensor) -> Tensor:
        weight = self.base.weight.detach().float()
        return weight + self.scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)

    def file_roles(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`magnitude` is m as PEFT takes it; `dora_scale` is the number by which V is scaled in relation to W's rows,
        as kohya's files are read."""
        stored = _lengths(self.base.weight.detach().float().cpu())
        moved = self._moved(weights["down"].to(self.base.weight.device), weights["up"].to(self.base.weight.device))
        dora_scale = weights["magnitude"] * stored / _lengths(moved.cpu())
        return {**weights, "dora_scale": dora_scale}


class Lokr(Term):
    """LoKr: a Kronecker product of a small matrix and a larger one."""

    roles = ("lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b")

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int, alpha: float, seed: int, name: str) -> None:
        shape, device = base.weight.shape, base.weight.device
        (small_out, large_out), (small_in, large_in) = _factors(shape[0]), _factors(shape[1])
        is_product = rank < max(large_out, large_in) / 2
        super().__init__(base, rank, alpha if is_product else float(rank))
        small = normal((small_out, small_in), seed, "start", name) / math.sqrt(small_in)
        self.lokr_w1 = nn.Parameter(small.to(device))
        self._kernel = (large_out, large_in, *shape[2:])
        if is_product:
            inner = normal((large_out, rank), seed, "second", name) / math.sqrt(rank)
            self.lokr_w2_a = nn.Parameter(inner.to(device))
            self.lokr_w2_b = nn.Parameter(torch.zeros(rank, math.prod(self._kernel[1:]), device=device))
        else:
            self.lokr_w2 = nn.Parameter(torch.zeros(self._kernel, device=device))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.base(x)
        large: Tensor = self.lokr_w2 if hasattr(self, "lokr_w2") else self.lokr_w2_a @ self.lokr_w2_b
        large, small = large.reshape(self._kernel), self.lokr_w1
        x = x.to(small.dtype)
        if isinstance(self.base, nn.Conv2d):
            parts = x.reshape(len(x) * small.shape[1], -1, *x.shape[2:])
            turned = _convolved(self.base, parts, large)
            turned = turned.reshape(len(x), small.shape[1], *turned.shape[1:])
            change = torch.einsum("lm,bmkhw->blkhw", small, turned).flatten(1, 2)
        else:
            turned = F.linear(x.unflatten(-1, (small.shape[1], -1)), large)
            change = torch.einsum("lm,...mk->...lk", small, turned).flatten(-2)
        return answer + (self.scale * change).to(answer.dtype)


def _convolved(base: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight, bias, base.stride, base.padding, base.dilation)  # type: ignore[arg-type]


def _lengths(weight: Tensor) -> Tensor:
    """The norm of each row, [out]."""
    found: Tensor = weight.flatten(1).norm(dim=1)
    return found


def _by_row(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.dim() - 1))


def _factors(size: int) -> tuple[int, int]:
    """Two factors of a size that lie as near to each other as can be, the smaller first."""
    small = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)
    return small, size // small


KINDS: Mapping[str, Any] = {"LoRA": LowRank, "DoRA": Dora, "LoKr": Lokr}
assert set(KINDS) == set(ALGORITHMS)
