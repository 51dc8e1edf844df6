"""What a sweep saves: `python -m benchmarks.sweep [--repeat 5] [--processes 4]`

32 variants (4 prompts x 8 seeds, 20 steps) of the shipped text-to-image workflow on the built-in model: as one sweep,
as one with `exact` (no shared forward passes), one after another on one engine, and each in a process of its own. The
first three are timed in turns in one process, so that a busy machine is unfair to none. Every repetition starts with an
empty cache; the weights are in memory, but for the processes. Then the planning of 10,000 variants of a 12-node
workflow.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import graphflow as gf

PROMPTS = ["a red apple on a blue background", "a green pear", "a yellow house in the snow", "a rocket"]
SEEDS = 8


def apple() -> gf.Workflow:
    text = (files("graphflow_workflows") / "text_to_image.json").read_text(encoding="utf-8")
    return gf.Workflow.loads(text).set_all({"5.batch_size": 1, "3.steps": 20})


def two_stages() -> gf.Workflow:
    """Twelve nodes: text to image, and a second pass at twice the size; seven of them change with the seed."""
    one = apple()
    second = {
        "10": (
            "LatentUpscale",
            {"samples": ["3", 0], "upscale_method": "bilinear", "width": 128, "height": 128, "crop": "disabled"},
        ),
        "11": ("KSampler", {**one["3"].inputs, "latent_image": ["10", 0], "denoise": 0.5}),
        "12": ("VAEDecode", {"samples": ["11", 0], "vae": ["4", 2]}),
        "13": ("SaveImage", {"images": ["12", 0], "filename_prefix": "large"}),
        "14": ("CLIPSetLastLayer", {"clip": ["4", 1], "stop_at_clip_layer": -1}),
    }
    nodes = {key: gf.Node(class_type=kind, inputs=inputs) for key, (kind, inputs) in second.items()}
    return gf.Workflow({**one, **nodes}).set("6.clip", ["14", 0])


def pictures(repeat: int, processes: int) -> None:
    sweep = gf.sweep(apple(), {"6.text": PROMPTS, "3.seed": range(SEEDS)})
    ran: dict[str, int] = {}

    def as_sweep(engine: gf.Engine, **options: Any) -> None:
        nonlocal ran
        results = sweep.run(engine, **options)
        assert len(results.images) == len(sweep)
        ran = dict(results.ran)

    def one_after_another(engine: gf.Engine) -> None:
        for variant in sweep.variants:
            engine.run(variant.workflow)

    ways: dict[str, Callable[[gf.Engine], None]] = {
        "a sweep": as_sweep,
        "a sweep, exact": lambda engine: as_sweep(engine, exact=True),
        "one after another": one_after_another,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        with gf.Engine(settings=gf.Settings(output_dir=Path(folder, "first"))) as engine:
            engine.run(sweep.variants[0].workflow)  # loads the weights
        for number in range(repeat):
            for name, way in ways.items():
                with gf.Engine(settings=gf.Settings(output_dir=Path(folder, f"{number}{name}"))) as engine:
                    began, worked = time.perf_counter(), time.process_time()
                    way(engine)
                    times[name].append(time.perf_counter() - began)
                    work[name].append(time.process_time() - worked)
        apart = [_own_process(sweep.variants[index].workflow, Path(folder)) for index in range(processes)]
    print(f"{len(sweep)} pictures of 64 x 64, 20 steps: {len(PROMPTS)} prompts x {SEEDS} seeds")
    print(f"{'':<24}{'seconds':>9}{'a picture':>12}{'processor time':>16}{'times as fast as one after another':>38}")
    base = times["one after another"]
    for name, each in times.items():
        ratio = statistics.median(other / own for other, own in zip(base, each, strict=True))
        seconds = statistics.median(each)
        print(
            f"{name:<24}{seconds:>9.2f}{1000 * seconds / len(sweep):>9.0f} ms{statistics.median(work[name]):>14.2f} s"
            f"{ratio:>38.2f}"
        )
    if apart:
        each_apart = statistics.median(apart)
        print(
            f"{'each in its own process':<24}{each_apart * len(sweep):>9.1f}{1000 * each_apart:>9.0f} ms{'':>16}"
            f"{statistics.median(base) / (each_apart * len(sweep)):>38.2f}   ({processes} of them measured)"
        )
    titles = {key: node.class_type for key, node in sweep.variants.workflow.items()}
    counts = ", ".join(f"{titles[key]} {key} x {ran[key]}" for key in sorted(ran, key=int))
    print(f"nodes computed by the sweep: {counts}")


def _own_process(workflow: gf.Workflow, folder: Path) -> float:
    workflow.save(folder / "one.json")
    command = [
        sys.executable,
        "-m",
        "graphflow.cli",
        "run",
        str(folder / "one.json"),
        "--quiet",
        "--no-cache",
        "--output-dir",
        str(folder / "apart"),
    ]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def planning(repeat: int) -> None:
    workflow = two_stages()
    engine = gf.Engine()
    print(f"\nplanning 10,000 variants of a workflow of {len(workflow)} nodes")
    print(f"{'axes':<34}{'nodes of the plan':>18}{'seconds':>9}{'bytes a variant':>17}{'at the peak':>13}")
    for title, vary in {
        "10,000 seeds": {"3.seed": range(10_000)},
        "500 seeds x 20 cfg": {"3.seed": range(500), "3.cfg": [x / 2 for x in range(1, 21)]},
        "100 prompts x 100 seeds": {"6.text": [f"prompt {i}" for i in range(100)], "3.seed": range(100)},
    }.items():
        seconds = []
        for _ in range(repeat):
            gc.collect()
            began = time.perf_counter()
            plan = gf.sweep(workflow, vary).plan(engine)
            seconds.append(time.perf_counter() - began)
            del plan
        gc.collect()
        tracemalloc.start()
        plan = gf.sweep(workflow, vary).plan(engine)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(
            f"{title:<34}{len(plan.nodes):>18,}{statistics.median(seconds):>9.2f}{held / len(plan.wanted):>17,.0f}"
            f"{peak / len(plan.wanted):>13,.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--processes", type=int, default=4, help="how many variants to run in processes of their own")
    options = parser.parse_args()
    import torch

    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}  {os.cpu_count()} cores, load {load:.1f}; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; Python {platform.python_version()}"
    )
    pictures(options.repeat, options.processes)
    planning(min(3, options.repeat))


if __name__ == "__main__":
    main()
