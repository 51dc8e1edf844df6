"""Networks larger than their device: they lie in main memory, and their blocks come to the device in turns.

diffusers' group offloading does it: the next block is copied, on CUDA in a stream of its own, while one computes.
Weights and arithmetic are those of the whole network, so the answers have the same bits.
"""

from __future__ import annotations

import torch

__all__ = ["page", "total_bytes"]


def page(module: torch.nn.Module, device: torch.device) -> None:
    """Let the blocks of a network in main memory take turns on `device` from now on."""
    from diffusers.hooks.group_offloading import apply_group_offloading

    streams = device.type == "cuda"
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        non_blocking=streams,
        use_stream=streams,
        low_cpu_mem_usage=streams,
    )


def total_bytes(module: torch.nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a network's weights, also of one without memory on the `meta` device, in a number format."""
    weights = (*module.parameters(), *module.buffers())
    return sum(weight.numel() * (dtype if weight.is_floating_point() else weight.dtype).itemsize for weight in weights)
