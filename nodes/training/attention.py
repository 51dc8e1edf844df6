"""How attention is computed in training."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["fast_attention"]

FEW_PLACES = 256
"""Of a latent: up to them plain attention is faster in bfloat16 on a CPU."""


def fast_attention(device: str, latent: Tensor) -> AbstractContextManager[None]:
    """For the forward passes of latents [..., h, w]. In bfloat16 on a CPU (autocast) the backward pass of torch's fused
    attention takes up to 25 times as long as that of plain products where an image has few places (torch 2.13)."""
    is_slow = device.startswith("cpu") and torch.is_autocast_enabled("cpu")
    if not is_slow or latent.shape[-2:].numel() > FEW_PLACES:
        return nullcontext()
    plain: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return plain
