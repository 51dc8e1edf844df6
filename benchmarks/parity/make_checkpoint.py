#!/usr/bin/env python3
"""Write a Stable Diffusion 1.5 checkpoint with made-up weights, the same on every machine: python make_checkpoint.py OUT.safetensors

Single file, LDM key layout, fp16, 2.1 GB. Nothing is trained: each tensor is drawn from a generator seeded by its name, and the first and
last layers carry the latent through, so that sampling stays well conditioned. For comparing implementations, and for size and speed.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

UNET = "model.diffusion_model."
VAE = "first_stage_model."


def gain(name: str) -> float:
    if name.startswith(UNET):
        if ".out_layers.3." in name or ".proj_out." in name:
            return 0.7
        return 0.1 if name.startswith(UNET + "out.2") else 1.0
    if name.startswith(VAE):
        if ".conv2." in name or ".proj_out." in name:
            return 0.5
        return 0.6 if "decoder.conv_out" in name else 1.0
    return 0.8


def draw(name: str, shape: list[int]) -> torch.Tensor:
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).reshape(shape)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
    if name.endswith("embedding.weight"):
        noise = noise * (0.02 if "position" in name else 0.05)
    elif len(shape) == 1:
        noise = 1 + 0.05 * noise if name.endswith(".weight") else 0.02 * noise
    else:
        noise = noise * (gain(name) / math.sqrt(math.prod(shape[1:])))
    return noise.half()


def carry_latent_through(weights: dict[str, torch.Tensor]) -> None:
    """Make the U-Net's answer about x / std(x) plus a part that depends on x, t and the prompt."""

    def edit(name: str, change) -> None:
        tensor = weights[UNET + name].float()
        change(tensor)
        weights[UNET + name] = tensor.half()

    def first(w: torch.Tensor) -> None:
        w[:8] = 0
        for i in range(4):
            w[i, i, 1, 1], w[4 + i, i, 1, 1] = 1.0, -1.0

    def skip(w: torch.Tensor) -> None:
        w[:8] = 0
        for k in range(8):
            w[k, 320 + k, 0, 0] = 4.0

    def last(w: torch.Tensor) -> None:
        w[:, :8] = 0
        for i in range(4):
            w[i, i, 1, 1], w[i, 4 + i, 1, 1] = 0.9, -0.9

    edit("input_blocks.0.0.weight", first)
    edit("input_blocks.0.0.bias", lambda b: b[:8].zero_())
    edit("output_blocks.11.0.skip_connection.weight", skip)
    edit("output_blocks.11.0.skip_connection.bias", lambda b: b[:8].zero_())
    for name in ("output_blocks.11.0.out_layers.3.", "output_blocks.11.1.proj_out."):
        for part in ("weight", "bias"):
            edit(name + part, lambda t: t[:8].mul_(0.1))
    edit("out.0.weight", lambda w: w[:10].fill_(1))
    edit("out.0.bias", lambda b: b[:10].zero_())
    edit("out.2.weight", last)


def main() -> None:
    shapes = json.loads(Path(__file__).with_name("shapes.json").read_text())
    weights = {name: draw(name, shape) for name, shape in shapes.items()}
    carry_latent_through(weights)
    save_file(
        weights, sys.argv[1], metadata={"format": "pt", "note": "made-up weights, SD 1.5 architecture, not trained"}
    )


if __name__ == "__main__":
    main()
