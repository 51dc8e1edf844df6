"""How the engine's cache shares, counts and stores torch tensors (entry point `graphflow.codecs`)."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

__all__ = ["load", "owns", "save", "share", "storage"]


def owns(value: Any) -> bool:
    return type(value) is Tensor and value.layout is torch.strided and not value.is_complex() and not value.is_quantized


def share(value: Tensor) -> Tensor:
    """Copy on write: both sides see the same memory until one of them writes into its own."""
    value = value.detach()
    try:
        return torch._lazy_clone(value)
    except (AttributeError, RuntimeError):  # memory that is not torch's own, or a torch without it
        return value.clone()


def storage(value: Tensor) -> tuple[int, int]:
    """Where the memory begins, asked without claiming to write there: that would end the sharing."""
    begin = torch._C._data_address(value) - value.storage_offset() * value.element_size()
    return begin, value.untyped_storage().nbytes()


def save(leaves: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    return save_tensors({name: leaf.detach().cpu().contiguous().clone() for name, leaf in leaves.items()}, metadata)


def load(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    return load_tensors(data), header.get("__metadata__", {})
