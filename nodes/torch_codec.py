"""How the engine's cache shares, counts and stores torch tensors (entry point `graphflow.codecs`)."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

__all__ = ["load", "owns", "save", "share", "storage", "stores"]

METADATA = "graphflow"
STORED = {
    getattr(torch, name, None)
    for name in (
        "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
        "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    )
}  # fmt: skip
"""What a safetensors file gives back as it was. Others it refuses, or takes and cannot read."""


def owns(value: Any) -> bool:
    return type(value) in (Tensor, torch.nn.Parameter) and value.layout is torch.strided


def stores(value: Tensor) -> bool:
    return type(value) is Tensor and value.dtype in STORED and not value.is_meta and not value.is_nested


def share(value: Tensor) -> Tensor:
    """Copy on write: both sides see the same memory until one of them writes into its own."""
    try:
        shared = torch._lazy_clone(value.detach())
    except (AttributeError, RuntimeError):  # memory that is not torch's own, or a torch without it
        shared = value.detach().clone()
    return torch.nn.Parameter(shared, value.requires_grad) if type(value) is torch.nn.Parameter else shared


def storage(value: Tensor) -> tuple[int, int]:
    """Where the memory begins, asked without claiming to write there: that would end the sharing."""
    return torch._C._data_address(value), value.untyped_storage().nbytes()


def save(leaves: dict[str, Any], note: str) -> bytes:
    """Flat numpy arrays may be among the leaves; they come back as tensors.

    The order of the dimensions in memory is kept, too: a kernel may add up in another order on another layout, and
    a result that was stored must give the same bits downstream as the one that was not."""
    tensors = {name: leaf if type(leaf) is Tensor else torch.from_numpy(leaf) for name, leaf in leaves.items()}
    orders = {name: order for name, leaf in tensors.items() if (order := _order(leaf)) is not None}
    dense = {}
    for name, leaf in tensors.items():
        plain = leaf.detach().permute(orders[name]) if name in orders else leaf.detach()
        dense[name] = plain.cpu().clone(memory_format=torch.contiguous_format)
    # One key, because several are written in no fixed order.
    return save_tensors(dense, {METADATA: json.dumps([note, orders])})


def load(data: bytes) -> tuple[dict[str, Tensor], str]:
    (length,) = struct.unpack_from("<Q", data)
    note, orders = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])
    # The tensors lie in the buffer that was read, which cannot be shared by copy on write: a copy each, once.
    leaves = {name: leaf.clone() for name, leaf in load_tensors(data).items()}
    for name, order in orders.items():
        leaves[name] = leaves[name].permute([order.index(dim) for dim in range(len(order))])
    return leaves, note


def _order(leaf: Tensor) -> list[int] | None:
    """The dimensions from the slowest to the fastest in memory, None where that is their own order."""
    strides = leaf.stride()
    if leaf.is_contiguous() or 0 in strides:
        return None
    order = sorted(range(leaf.dim()), key=lambda dim: -strides[dim])
    return order if order != list(range(leaf.dim())) else None
