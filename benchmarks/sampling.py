"""What a step costs besides its passes, and whole images against diffusers' own pipeline on the same machine:
`python -m benchmarks.sampling [--only PART ...]`, or with a model of SDXL's size (17 GB of memory, see `sdxl_size`)
`python -m benchmarks.sampling --size sdxl --steps 2 --repeat 2 [--only eager apart]`

Each part runs in a process of its own, and in under 8 minutes on a quiet machine:

| part | what |
|---|---|
| `own` | the own cost of KSampler with the built-in model: a run of it, less the time in the passes themselves |
| `formats` | bfloat16 and float16 against float32: seconds of a pass, and how far latents are apart after a run |
| `eager` | an image of a random model of SD 1.5's size, paired with diffusers' pipeline on the same weights |
| `apart` | an image by each in a process of its own, as users run them, each with the allocator that it has there |
| `compiled` | the same with `--compile on` in float32, and the first image, in this process and in the next one |
| `bfloat16` | the same with `--compile on --dtype bfloat16`, against diffusers in float32 |
| `memory` | the peak of resident memory of both, each in a process of its own |
| `first` | seconds from the start of a process to its first image, with the built-in model |

Times are CPU seconds of the whole process, the least of some runs in turns, so a busy machine is fair to both. PSNR is
over the range of the image.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.schedules import schedule

import graphflow as gf

from .sd15_size import Pair, default_folder, psnr
from .sdxl_size import in_turns, paired, resident

TARGETS = {"eager": (1.00, 50.0), "compiled": (0.72, 45.0), "bfloat16": (0.35, 0.0)}
"""For an image: the CPU time at most, in that of diffusers, and the PSNR at least."""
OF_PASSES, OF_MEMORY = 1.02, 1.05
"""KSampler's time in that of its passes, and the peak of memory in that of diffusers, at most."""
PARTS = ("own", "formats", "eager", "apart", "compiled", "bfloat16", "memory", "first")

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


def image(part: str, options: argparse.Namespace) -> None:
    """An image by GraphFlow and by diffusers in turns."""
    dtype = "bfloat16" if part == "bfloat16" else "float32"
    with Pair(options.folder, options.pixels, options.steps, dtype, "off" if part == "eager" else "on") as pair:
        wall, began = time.perf_counter(), time.process_time()
        found, _ = pair.ours()
        first, waited = time.process_time() - began, time.perf_counter() - wall
        theirs, counts = pair.theirs(), open_device(pair.settings).loop.counts
        wanted, mine, others, of_passes = theirs(), math.inf, math.inf, math.inf
        for _ in range(options.repeat):
            before, began = counts.seconds, time.process_time()
            found, result = pair.ours()
            mine = min(mine, time.process_time() - began)
            of_passes = min(of_passes, result.timings["3"] / (counts.seconds - before))
            began = time.process_time()
            theirs()
            others = min(others, time.process_time() - began)
    most, least = TARGETS[part]
    close = psnr(found, wanted)
    verdict("KSampler in its passes", of_passes, of_passes <= OF_PASSES, f"at most {OF_PASSES}")
    row = f"image, {part}: {mine:.2f} s against {others:.2f} s"
    verdict(row, mine / others, mine <= most * others, f"at most {most:.2f}")
    verdict(f"image, {part}: PSNR, dB", close, close >= least, f"at least {least:.0f}")
    print(f"the first image of the process: {first:.0f} CPU s, {waited:.0f} s", flush=True)


def again(options: argparse.Namespace) -> None:
    """The first image of a process whose compiled code lies on disk."""
    with Pair(options.folder, options.pixels, options.steps, "float32", "on") as pair:
        began = time.process_time()
        pair.ours()
        first = time.process_time() - began
        began = time.process_time()
        pair.ours()
        more = first - (time.process_time() - began)
    print(f"the next process: {more:.0f} CPU s more for its first image, loading the model and its code", flush=True)


def seconds(program: str, options: argparse.Namespace) -> None:
    """Prints the CPU seconds of an image, the least of some; this process loads the model for both and makes images
    with one. diffusers' has glibc's allocator as it is: no pass of ours is made here."""
    with Pair(options.folder, options.pixels, options.steps) as pair:
        image: Callable[[], Any] = pair.ours if program == "ours" else pair.theirs()
        image()
        least = math.inf
        for _ in range(options.repeat):
            began = time.process_time()
            image()
            least = min(least, time.process_time() - began)
    print(json.dumps(least))


def apart(options: argparse.Namespace) -> None:
    ours, theirs = (json.loads(child(f"seconds-{name}", options, quiet=True)) for name in ("ours", "theirs"))
    verdict(f"image, apart: {ours:.2f} s against {theirs:.2f} s", ours / theirs, ours <= theirs, "at most 1.00")


def peak(program: str, options: argparse.Namespace) -> None:
    """Prints how much the resident memory grew at the most while a program made its images, in bytes."""
    with Pair(options.folder, options.pixels, 2, "float32") as pair:
        if program == "ours":
            before = resident("VmRSS")
            pair.ours()
        else:
            import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion  # noqa: F401

            before = resident("VmRSS")
            pair.theirs()()
    print(json.dumps(resident("VmHWM") - before))


def memory(options: argparse.Namespace) -> None:
    ours, theirs = (json.loads(child(f"peak-{name}", options, quiet=True)) for name in ("ours", "theirs"))
    row = f"memory at the peak: {ours / 1e9:.2f} GB against {theirs / 1e9:.2f} GB"
    verdict(row, ours / theirs, ours <= OF_MEMORY * theirs, f"at most {OF_MEMORY}")


def sdxl_eager(options: argparse.Namespace) -> None:
    """A model of SDXL's size, both programs in one process."""
    found, close = paired(options)
    of_passes, (most, least) = found["KSampler in its passes"], TARGETS["eager"]
    verdict("KSampler in its passes", of_passes, of_passes <= OF_PASSES, f"at most {OF_PASSES}")
    row, ratio = f"image: {found['ours']:.2f} s against {found['theirs']:.2f} s", found["ours"] / found["theirs"]
    verdict(row, ratio, ratio <= most, f"at most {most:.2f}")
    verdict("image: PSNR, dB", close, close >= least, f"at least {least:.0f}")


def sdxl_apart(options: argparse.Namespace) -> None:
    """The same, each program in processes of its own, in turns."""
    found, close = in_turns(options)
    ours, theirs = found["ours"], found["theirs"]
    for name, target in {"s an image": 1.0, "GB resident": OF_MEMORY, "GB anonymous": OF_MEMORY}.items():
        row = f"{name}: {ours[name]:.2f} against {theirs[name]:.2f}"
        verdict(row, ours[name] / theirs[name], ours[name] <= target * theirs[name], f"at most {target:.2f}")
    verdict("image: PSNR, dB", close, close >= TARGETS["eager"][1], f"at least {TARGETS['eager'][1]:.0f}")


def first(options: argparse.Namespace) -> None:
    """A new process each, with a cache of its own."""
    least = math.inf
    for seed in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            places = ["--cache-dir", f"{folder}/cache", "--output", f"{folder}/out"]
            call = [
                sys.executable,
                "-m",
                "graphflow",
                "run",
                "text_to_image",
                "--set",
                f"KSampler.seed={seed}",
                *places,
            ]
            before = os.times()
            subprocess.run(call, check=True, capture_output=True)
            after = os.times()
            least = min(least, after.children_user + after.children_system - before[2] - before[3])
    print(f"a process that makes one image with the built-in model: {least:.2f} CPU s", flush=True)


def verdict(what: str, found: float, is_met: bool, target: str) -> None:
    print(f"{what:58} {found:7.3f}   {target:14} {'met' if is_met else 'MISSED'}", flush=True)


def child(part: str, options: argparse.Namespace, quiet: bool = False) -> str:
    """Run a part in a process of its own; what it prints, where that is not for people."""
    stated = [f"--{name}={getattr(options, name)}" for name in ("pixels", "steps", "repeat", "folder", "threads")]
    call = [sys.executable, "-m", "benchmarks.sampling", "--part", part, *stated]
    done = subprocess.run(call, check=True, text=True, stdout=subprocess.PIPE if quiet else None)
    return done.stdout or ""


def run(part: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    if part == "own":
        print(f"{'KSampler on the built-in model, 64 px':40} {'own ms a step':>14} {'ms a pass':>10}")
        for batch in (1, 4):
            own, one = own_cost(20, batch)
            print(f"{f'batch of {batch}, {2 * batch} rows':40} {own:14.2f} {one:10.2f}", flush=True)
    elif part in TARGETS:
        image(part, options)
    elif part.startswith("peak-"):
        peak(part.removeprefix("peak-"), options)
    elif part.startswith("seconds-"):
        seconds(part.removeprefix("seconds-"), options)
    elif part == "formats":
        formats(options.pixels, options.steps, options.repeat)
    else:
        {"again": again, "apart": apart, "memory": memory, "first": first}[part](options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", choices=("sd15", "sdxl"), default="sd15", help="of the random model")
    parser.add_argument("--rounds", type=int, default=2, help="of sdxl: processes of each program")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where the model is written, 2.1 or 7 GB")
    options = parser.parse_args()
    if options.part:
        run(options.part, options)
        return
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, ", end="")
    print(f"{options.threads} thread(s), {options.pixels} px, {options.steps} steps of euler, cfg 5", flush=True)
    if options.size == "sdxl":
        for part, measure in {"eager": sdxl_eager, "apart": sdxl_apart}.items():
            if part in options.only:
                print(f"\n{part}, SDXL-size", flush=True)
                measure(options)
        return
    for part in options.only:
        print(f"\n{part}", flush=True)
        child(part, options)
        if part == "compiled":
            child("again", options)


if __name__ == "__main__":
    main()
