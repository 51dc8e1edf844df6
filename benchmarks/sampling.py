"""What a step costs besides its passes, and what a number format costs and gives: `python -m benchmarks.sampling`

1. The own cost of KSampler: a run of it on the built-in model, less the time in the passes themselves.
2. bfloat16 and float16 against float32: seconds of a pass of a random U-Net of SD 1.5's size, and how far the latents
are
   apart after a run (PSNR over the range of the float32 ones).

A busy machine is unfair to whole runs; the passes are timed in turns, and the least of each counts.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.schedules import schedule

import graphflow as gf

TINY = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a red apple"}},
}


def own_cost(steps: int, batch: int) -> tuple[float, float]:
    """(milliseconds a step besides the pass, milliseconds of the pass)"""
    nodes = {
        **TINY,
        "5": {**TINY["5"], "inputs": {"width": 64, "height": 64, "batch_size": batch}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["6", 0],
                "latent_image": ["5", 0],
                "steps": steps,
                "cfg": 4.0,
            },
        },
    }
    graph = gf.Workflow.from_json(nodes)
    with tempfile.TemporaryDirectory() as folder:
        settings = gf.Settings(output_dir=Path(folder))
        with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
            engine.run(graph, targets=["3"])
            counts = open_device(settings).loop.counts
            before, least = counts.seconds, (math.inf, math.inf)
            for _ in range(5):
                seconds = engine.run(graph, targets=["3"]).timings["3"]
                passes, before = counts.seconds - before, counts.seconds
                least = min(least, ((seconds - passes) / steps * 1e3, passes / steps * 1e3))
    return least


def formats(pixels: int, steps: int, repeat: int) -> None:
    """A random U-Net of SD 1.5's size: seconds of a pass of two rows, and how far a run's latents are apart."""
    torch.manual_seed(0)
    networks: dict[str, Any] = {"float32": UNet2DConditionModel(cross_attention_dim=768).eval().requires_grad_(False)}
    state = networks["float32"].state_dict()
    for name in ("bfloat16", "float16"):
        networks[name] = UNet2DConditionModel(cross_attention_dim=768).eval().requires_grad_(False)
        networks[name].load_state_dict(state)
        networks[name] = networks[name].to(getattr(torch, name))
    side = pixels // 8
    context = torch.randn(2, 77, 768)
    x, times = torch.randn(2, 4, side, side), torch.tensor([500.0, 500.0])
    asks: dict[str, Callable[[], Any]] = {
        name: lambda network=network: _ask(network, x, times, context) for name, network in networks.items()
    }
    least = dict.fromkeys(networks, math.inf)
    for _ in range(repeat):
        for name, ask in asks.items():
            began = time.thread_time()
            ask()
            least[name] = min(least[name], time.thread_time() - began)
    ends = {name: _walk(network, context, side, steps) for name, network in networks.items()}
    exact = ends["float32"]
    print(f"\nrandom U-Net of SD 1.5's size, {pixels} px, 2 rows, euler, {steps} steps\n")
    print(f"{'format':10} {'CPU s a pass':>13} {'times float32':>14} {'PSNR, dB':>9}")
    for name, seconds in least.items():
        error = float(((ends[name] - exact) ** 2).mean())
        psnr = math.inf if error == 0 else 10 * math.log10(float(exact.max() - exact.min()) ** 2 / error)
        print(f"{name:10} {seconds:13.2f} {least['float32'] / seconds:14.2f} {psnr:9.1f}", flush=True)


@torch.inference_mode()
def _ask(network: Any, x: torch.Tensor, times: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    answer: torch.Tensor = network(x.to(network.dtype), times, context.to(network.dtype)).sample.float()
    return answer


def _walk(network: Any, context: torch.Tensor, side: int, steps: int) -> torch.Tensor:
    """The latent of an Euler run with guidance 5."""
    prediction = Epsilon()
    sigmas = schedule("normal", steps, prediction)
    x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(1)) * sigmas[0]
    for sigma, after in pairwise(sigmas):
        seen = prediction.scale_in(x, sigma).repeat(2, 1, 1, 1)
        out = _ask(network, seen, prediction.time(sigma).float().expand(2), context)
        guided = out[:1] + 5.0 * (out[1:] - out[:1])
        x0 = prediction.x0(x, sigma, guided)
        x = x0 + (x - x0) / sigma * after
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{'KSampler on the built-in model, 64 px':40} {'own ms a step':>14} {'ms a pass':>10}")
    for batch in (1, 4):
        own, one = own_cost(20, batch)
        print(f"{f'batch of {batch}, {2 * batch} rows':40} {own:14.2f} {one:10.2f}", flush=True)
    formats(options.pixels, options.steps, options.repeat)


if __name__ == "__main__":
    main()
