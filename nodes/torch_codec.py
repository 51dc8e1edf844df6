"""How the engine's cache shares, counts and stores torch tensors (entry point `graphflow.codecs`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["load", "owns", "save", "share", "storage"]

STORED = {
    getattr(torch, name, None)
    for name in (
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
    )
}
"""The number formats that a safetensors file returns unchanged. It refuses others, or takes them and cannot read
them."""


def owns(value: Any) -> bool:
    return type(value) in (Tensor, torch.nn.Parameter) and value.layout is torch.strided


def share(value: Tensor) -> Tensor:
    """Copy on write: both sides see the same memory until one of them writes into its own."""
    try:
        shared = torch._lazy_clone(value.detach())
    except (AttributeError, RuntimeError):  # memory that is not torch's own, or a torch without it
        shared = value.detach().clone()
    return torch.nn.Parameter(shared, value.requires_grad) if type(value) is torch.nn.Parameter else shared


def storage(value: Tensor) -> tuple[int, int]:
    """Where the memory begins, asked without claiming to write there: that would end the sharing."""
    return torch._C._data_address(value), value.untyped_storage().nbytes()  # type: ignore[attr-defined]


def save(value: Tensor) -> tuple[Any, memoryview] | None:
    """A tensor is described by [dtype, shape, dimensions from the slowest to the fastest in memory].

    The order in memory is kept because a kernel may add up in another order on another layout, and a stored result
    must give the same bits downstream as the one that was not stored.
    """
    if type(value) is not Tensor or value.dtype not in STORED or value.is_meta or value.is_nested:
        return None
    order = _order(value)
    dense = value.detach().permute(order).resolve_neg().cpu()
    # A clone, because `numpy()` may write: it would end the sharing with all other owners of this memory.
    flat = dense.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
    form = [str(value.dtype).removeprefix("torch."), list(value.shape), order]
    return form, memoryview(flat.numpy())  # type: ignore[arg-type]


def load(form: Any, data: memoryview) -> Tensor:
    kind, shape, order = form
    # Copied into memory of torch's own: other memory cannot be shared by copy on write.
    flat = torch.empty(len(data), dtype=torch.uint8)
    flat.numpy()[:] = np.frombuffer(data, np.uint8)
    dense = flat.view(getattr(torch, kind)).reshape([shape[dim] for dim in order])
    return dense.permute([order.index(dim) for dim in range(len(order))])


def _order(leaf: Tensor) -> list[int]:
    """The dimensions from the slowest to the fastest in memory; their own order where one stands for many places."""
    strides = leaf.stride()
    own = list(range(leaf.dim()))
    return own if leaf.is_contiguous() or 0 in strides else sorted(own, key=lambda dim: -strides[dim])
