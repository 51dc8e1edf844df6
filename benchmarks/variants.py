"""What variants by value cost: 1,000 of a 30-node workflow, in time and in memory. `python -m benchmarks.variants`

Processor time stands beside the time of the clock, because the machine may have other work to do.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable

import graphflow as gf

VARIANTS = 1000


def base() -> gf.Workflow:
    """30 nodes: a loader, five prompts, four samplers in a row with a decoder and a saver each, and upscalers."""
    n = gf.Nodes()
    with gf.Graph() as g:
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        texts = [n.CLIPTextEncode(clip=clip, text=f"text {number}") for number in range(5)]
        latent = n.EmptyLatentImage(width=64, height=64)
        for number in range(4):
            latent = n.KSampler(
                model=model, positive=texts[number], negative=texts[4], latent_image=latent, seed=number
            )
            n.SaveImage(images=n.VAEDecode(samples=latent, vae=vae))
        while len(g) < 30:
            latent = n.LatentUpscaleBy(samples=latent, upscale_method="bilinear")
    return g.workflow


def ways(workflow: gf.Workflow) -> dict[str, Callable[[int], gf.Workflow]]:
    place, other = gf.Place("KSampler", "seed"), gf.Place("KSampler", "cfg")
    node = gf.Node(class_type="ModelPatch", inputs={})
    return {
        "set(Place, value)": lambda i: workflow.set(place, i),
        "set('KSampler_2.seed', value)": lambda i: workflow.set("KSampler_2.seed", i),
        "set_all(two places)": lambda i: workflow.set_all({place: i, other: 3.0}),
        "replace(node, by)": lambda i: workflow.replace("KSampler_2", node),
        "insert_between": lambda i: workflow.insert_between(
            "CheckpointLoaderSimple", "KSampler_3", node, input="model"
        ),
        "without(two nodes)": lambda i: workflow.without("SaveImage_2", "VAEDecode_2"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    workflow = base()
    print(f"{VARIANTS} variants of a workflow of {len(workflow)} nodes, median of {rounds} rounds")
    print(f"{'':32} {'ms':>8} {'ms of processor':>16} {'bytes a variant':>16}")
    for name, make in ways(workflow).items():
        seconds, busy = [], []
        for _ in range(rounds):
            began, before = time.perf_counter(), time.process_time()
            kept = [make(number) for number in range(VARIANTS)]
            seconds.append(time.perf_counter() - began)
            busy.append(time.process_time() - before)
            del kept
        tracemalloc.start()
        kept = [make(number) for number in range(VARIANTS)]
        held = tracemalloc.get_traced_memory()[0] / len(kept)
        tracemalloc.stop()
        times = f"{statistics.median(seconds) * 1e3:8.1f} {statistics.median(busy) * 1e3:16.1f}"
        print(f"{name:32} {times} {held:16.0f}")


if __name__ == "__main__":
    main()
