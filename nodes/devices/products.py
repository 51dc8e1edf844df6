"""Products of float32 matrices, on processors that torch's own way leaves half idle.

torch multiplies float32 matrices by MKL, which uses the wide units (AVX-512) of its maker's processors only; its
convolutions come from oneDNN, which uses those of every maker. On AMD's, a linear layer by oneDNN's kernel takes 0.45
of the time, with the weight as it lies in memory. The same kernel serves convolutions of 1 x 1, and those of so few
places that torch, which brings a weight into its own order at each call, spends more on the weight than on the image.

The form of a layer hangs on the processor and on shapes alone, so equal passes have equal bits. What is trained
computes as ever, and so does all on other processors, where this has not been measured. What is compiled has the same
kernel by other ways (see `frozen` and `winograd`).
"""

from __future__ import annotations

import os
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .machine import processor_line

__all__ = ["adapt", "are_by_onednn", "are_eager", "product"]

VARIABLE = "GRAPHFLOW_ONEDNN"
"""`0`: torch's own way."""
LEAST_PRODUCTS = 1 << 21
"""Of one call: the kernel takes 10 us before it begins."""
LEAST_ROWS = 8
FEW_PLACES = 128
"""Of the output of a convolution in all rows of a pass."""


def adapt(network: nn.Module) -> None:
    """Let the layers of a network compute in the faster form, where this processor has one."""
    if not are_by_onednn():
        return
    for layer in network.modules():
        kind: Any = type(layer)
        first = _form_of(layer)
        if first is not None:
            layer.__class__ = _class_of(first, kind)


@cache
def are_by_onednn() -> bool:
    """Whether this processor is one of those."""
    if os.environ.get(VARIABLE) == "0" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    is_wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return is_wide and "AuthenticAMD" in processor_line("vendor_id")


def are_eager(*tensors: Tensor) -> bool:
    """Whether float32 values of a CPU are computed with now, for an answer alone: not to learn, and not to compile."""
    is_right = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
    return is_right and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b by oneDNN: [..., C], [O, C] and [O] -> [..., O], float32. The weight may have any strides."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def _form_of(layer: nn.Module) -> type | None:
    """Of layers that compute as torch's class does, whatever holds their weights."""
    forward: Any = type(layer).forward
    if forward is nn.Linear.forward:
        return _Linear
    if forward is not nn.Conv2d.forward:
        return None
    is_plain = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if not is_plain or layer.dilation != (1, 1):
        return None
    is_by_place = layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0)
    return _Pointwise if is_by_place else _Convolution


@cache
def _class_of(first: type, layer: Any) -> Any:
    return type(layer.__name__, (first, layer), {"__module__": __name__})


class _Linear:
    """The methods that stand before those of a layer's class."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        count = x.numel() // max(1, x.shape[-1])
        if count < LEAST_ROWS or count * weight.numel() < LEAST_PRODUCTS or not _is_served(x, weight):
            return F.linear(x, weight, bias)
        return product(x, weight, bias)


class _Pointwise:
    """A convolution of 1 x 1: a row of the batch is its weight times [channels, places]."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if x.dim() != 4 or x[0, 0].numel() * weight.numel() < LEAST_PRODUCTS or not _is_served(x, weight, 1):
            return self._conv_forward(x, weight, bias)  # type: ignore[attr-defined, no-any-return]
        matrix, places = weight.flatten(1), x.flatten(2)
        found = x.new_empty(x.shape[0], matrix.shape[0], places.shape[2])
        for row, target in zip(places, found, strict=True):
            torch.add(product(matrix, row.t()), 0 if bias is None else bias[:, None], out=target)
        return found.view(*found.shape[:2], *x.shape[2:])


class _Convolution:
    """One of few places: the weight times what each place sees."""

    weight: Tensor
    bias: Tensor | None
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        places = x.shape[0] * prod(map(self._outputs, x.shape[2:], (0, 1))) if x.dim() == 4 else 0
        is_few = LEAST_ROWS <= places <= FEW_PLACES and places * weight.numel() >= LEAST_PRODUCTS
        if not is_few or not _is_served(x, weight, 1):
            return self._conv_forward(x, weight, bias)  # type: ignore[attr-defined, no-any-return]
        seen = F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride).transpose(1, 2)
        found = product(seen.flatten(0, 1), weight.flatten(1), bias)
        side = [self._outputs(x.shape[2 + axis], axis) for axis in (0, 1)]
        return found.view(x.shape[0], -1, found.shape[1]).transpose(1, 2).reshape(x.shape[0], -1, *side)

    def _outputs(self, size: int, axis: int) -> int:
        return (size + 2 * self.padding[axis] - self.kernel_size[axis]) // self.stride[axis] + 1


def _is_served(x: Tensor, weight: Tensor, channels: int = -1) -> bool:
    return x.shape[channels] == weight.shape[1] and weight.is_contiguous() and are_eager(x, weight)
