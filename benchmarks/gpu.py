"""Models of real sizes on a GPU against diffusers' own passes: `python -m benchmarks.gpu`, under 8 minutes.

Random weights of the shapes of SDXL, FLUX.1 and Qwen-Image (1024 px) are made on the device, so no file is needed. Each
network is asked eagerly, as diffusers' pipelines ask it, with channels_last for the U-Net, compiled block by block, and
the U-Net whole with CUDA graphs (`mode="reduce-overhead"`, fixed shapes); in bfloat16, and with weights held in 8 bits
as GraphFlow holds packed files. The figures are the least milliseconds of a pass and the memory at the peak.

`--dry` runs the same script on a CPU with networks of a few megabytes, so that it is known to run. It has not run on a
GPU yet: there is no table of results.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

BUDGET = 8 * 60
"""Seconds of the whole run; what has no time left is passed over and named."""


@dataclass(frozen=True)
class Case:
    """One network and what it is asked with."""

    name: str
    make: Callable[[bool], Any]
    asked: Callable[[bool, torch.device, torch.dtype], dict[str, Any]]
    is_unet: bool = False


def sdxl(small: bool) -> Any:
    from diffusers import UNet2DConditionModel

    widths = [32, 64, 64] if small else [320, 640, 1280]
    stated: dict[str, Any] = {
        "block_out_channels": widths,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 1, 1] if small else [1, 2, 10],
        "attention_head_dim": [2, 4, 4] if small else [5, 10, 20],
        "cross_attention_dim": 64 if small else 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 32 if small else 256,
        "projection_class_embeddings_input_dim": 6 * 32 + 64 if small else 2816,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(**stated)


def sdxl_asked(small: bool, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    side, text, pooled = (16, 64, 64) if small else (128, 2048, 1280)
    return {
        "sample": torch.randn(2, 4, side, side, device=device, dtype=dtype),
        "timestep": torch.tensor([500.0, 500.0], device=device),
        "encoder_hidden_states": torch.randn(2, 77, text, device=device, dtype=dtype),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(2, pooled, device=device, dtype=dtype),
            "time_ids": torch.tensor([[1024, 1024, 0, 0, 1024, 1024]] * 2, device=device, dtype=dtype),
        },
    }


def flux(small: bool) -> Any:
    from diffusers import FluxTransformer2DModel

    if small:
        return FluxTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            guidance_embeds=True,
            axes_dims_rope=(8, 12, 12),
        )
    return FluxTransformer2DModel(guidance_embeds=True)


def flux_asked(small: bool, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    side, text, pooled, words = (8, 64, 64, 16) if small else (64, 4096, 768, 512)
    places = torch.zeros(side, side, 3, device=device)
    places[..., 1] += torch.arange(side, device=device)[:, None]
    places[..., 2] += torch.arange(side, device=device)
    return {
        "hidden_states": torch.randn(1, side * side, 64, device=device, dtype=dtype),
        "encoder_hidden_states": torch.randn(1, words, text, device=device, dtype=dtype),
        "pooled_projections": torch.randn(1, pooled, device=device, dtype=dtype),
        "timestep": torch.tensor([0.5], device=device, dtype=dtype),
        "guidance": torch.tensor([3.5], device=device),
        "img_ids": places.reshape(-1, 3),
        "txt_ids": torch.zeros(words, 3, device=device),
    }


def qwen(small: bool) -> Any:
    from diffusers import QwenImageTransformer2DModel

    if small:
        return QwenImageTransformer2DModel(
            num_layers=2,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=64,
            axes_dims_rope=(4, 14, 14),
        )
    return QwenImageTransformer2DModel()


def qwen_asked(small: bool, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    side, text, words = (8, 64, 16) if small else (64, 3584, 256)
    return {
        "hidden_states": torch.randn(1, side * side, 64, device=device, dtype=dtype),
        "encoder_hidden_states": torch.randn(1, words, text, device=device, dtype=dtype),
        "encoder_hidden_states_mask": torch.ones(1, words, device=device, dtype=torch.long),
        "timestep": torch.tensor([0.5], device=device, dtype=dtype),
        "img_shapes": [[(1, side, side)]],
    }


CASES = (
    Case("SDXL-size", sdxl, sdxl_asked, is_unet=True),
    Case("FLUX.1-size", flux, flux_asked),
    Case("Qwen-size", qwen, qwen_asked),
)


def forms(case: Case, module: Any, eager_only: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The name of a way to run a network, and what prepares it; each stands on the one before."""
    yield "eager", lambda: module
    if case.is_unet:
        yield "channels_last", lambda: module.to(memory_format=torch.channels_last)
    if eager_only:
        return

    def by_blocks() -> Any:
        module.compile_repeated_blocks(fullgraph=False, dynamic=False)
        return module

    def whole() -> Any:
        compile: Any = torch.compile
        return compile(module, dynamic=False, mode="reduce-overhead")

    yield "blocks compiled", by_blocks
    if case.is_unet:
        yield "compiled, graphs", whole


def held_in_fp8(module: Any, dtype: torch.dtype) -> None:
    """The weights of Linears in 8 bits, unpacked when a layer reads them, as GraphFlow holds packed files."""
    from graphflow_nodes.files.packed import PLAIN, Packed, put_packed
    from graphflow_nodes.files.quantised import StoredLayer

    linears = [name for name, one in module.named_modules() if type(one) is torch.nn.Linear]
    for name in linears:
        weight = module.get_submodule(name).weight.detach()
        packed = {"weight": weight.to(torch.float8_e4m3fn)}
        put_packed(module, f"{name}.weight", Packed(packed, StoredLayer(PLAIN), tuple(weight.shape), dtype))


@torch.inference_mode()
def least(module: Any, asked: dict[str, Any], device: torch.device, repeat: int) -> float:
    """The least milliseconds of a pass; the first, which may compile, does not count."""
    found = math.inf
    for number in range(repeat + 1):
        began = time.perf_counter()
        module(**asked, return_dict=False)
        if device.type == "cuda":
            torch.cuda.synchronize()
        found = min(found, (time.perf_counter() - began) * 1000) if number else found
    return found


def made(case: Case, small: bool, device: torch.device, dtype: torch.dtype) -> Any:
    """The network with random weights, made on the device in its number format."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return case.make(small).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="small networks on the CPU, eagerly")
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    device = torch.device("cpu" if options.dry else "cuda")
    if not options.dry and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device; --dry runs the script on the CPU")
    what = "CPU, dry: the figures mean nothing" if options.dry else torch.cuda.get_device_name()
    print(f"{what}, torch {torch.__version__}\n{'network':12} {'weights':10} {'form':18} {'ms a pass':>10} {'GB':>6}")
    began = time.perf_counter()
    for case in CASES:
        for held in ("bfloat16", "fp8"):
            module = made(case, options.dry, device, torch.bfloat16)
            if held == "fp8":
                held_in_fp8(module, torch.bfloat16)
            asked = case.asked(options.dry, device, torch.bfloat16)
            for name, prepare in forms(case, module, eager_only=options.dry or held == "fp8"):
                if time.perf_counter() - began > BUDGET:
                    print(f"{case.name:12} {held:10} {name:18} no time left")
                    continue
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                found = least(prepare(), asked, device, options.repeat)
                peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
                print(f"{case.name:12} {held:10} {name:18} {found:10.1f} {peak:6.1f}", flush=True)
            del module, asked
            if device.type == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
