"""A random model of Stable Diffusion XL's size, and the same image by GraphFlow and by diffusers' own pipeline:
`python -m benchmarks.sampling --size sdxl`

In float32 its weights are 14 GB. `eager` is one process in which both make images in turns on the same weights, so that
what else the machine does slows both. In `apart` each program runs in a process of its own, one after the other (ours,
theirs, ours, theirs), and loads the same diffusers folder (float16, 7 GB, written once) as its users do. Of each
process: the CPU seconds of an image, the least of some after the first one, those of its networks, and the memory at
the peak, from the start of the process to its last image. Images are compared through files.

Memory is counted twice: all that is resident (`VmHWM`), and what is not a page of a file, which the system cannot take
back (`RssAnon`, looked at 50 times a second).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.samplers.noise import prepare_noise
from graphflow_nodes.samplers.schedules import schedule
from torch import Tensor

import graphflow as gf

from .sd15_size import CFG, PROMPTS, SEED, in_torchs_form, psnr
from .sdxl_model import BETAS, NAME, SCALE, make_model

__all__ = ["in_turns", "paired", "resident", "run_side"]

SIDES = ("ours", "theirs")
LOOKS = 0.02
"""Seconds between two looks at the memory."""


def in_turns(options: argparse.Namespace) -> tuple[dict[str, dict[str, float]], float]:
    """(what was measured of each program, the least over its processes; the PSNR of ours)"""
    make_model(options.folder)
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    images: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(options.rounds):
            for side in SIDES:
                path = Path(place) / f"{side}.pt"
                stated = [f"--{name}={getattr(options, name)}" for name in ("pixels", "steps", "repeat", "threads")]
                call = [sys.executable, "-m", "benchmarks.sdxl_size", side, f"--image={path}", *stated]
                done = subprocess.run(
                    [*call, f"--folder={options.folder}"], check=True, text=True, stdout=subprocess.PIPE
                )
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{side:7}", ", ".join(f"{name} {one:.3f}" for name, one in found[side][-1].items()), flush=True)
                images[side] = torch.load(path)
    least = {side: {name: min(one[name] for one in several) for name in several[0]} for side, several in found.items()}
    return least, psnr(images["ours"], images["theirs"])


def run_side(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Load the model, make images, and return what was measured: CPU seconds, GB, and KSampler's time in that of its
    passes."""
    torch.set_num_threads(options.threads)
    with anonymous_peak() as peak:
        made, measured = (_ours if side == "ours" else _theirs)(options)
    torch.save(made, options.image)
    return {**measured, "GB resident": resident("VmHWM") / 1e9, "GB anonymous": peak() / 1e9}


def _timed(
    image: Callable[[], Tensor], networks: Callable[[], Mapping[str, Any]], repeat: int
) -> tuple[Tensor, dict[str, float]]:
    """The first image loads what is not loaded yet. Of the fastest other one also the CPU seconds of each network."""
    began = time.process_time()
    made = image()
    first, least, within = time.process_time() - began, math.inf, dict[str, float]()
    spent = _clocked(networks())
    for _ in range(repeat):
        spent.clear()
        began = time.process_time()
        made = image()
        took = time.process_time() - began
        if took < least:
            least, within = took, {f"s {name}": one for name, one in spent.items()}
    return made, {"s an image": least, **within, "s the first": first}


def _clocked(networks: Mapping[str, Any]) -> dict[str, float]:
    """By network: the CPU seconds of its passes from now on."""
    spent: dict[str, float] = defaultdict(float)

    def begin(name: str, *_: object) -> None:
        spent[name] -= time.process_time()

    def end(name: str, *_: object) -> None:
        spent[name] += time.process_time()

    for name, network in networks.items():
        network.register_forward_pre_hook(partial(begin, name))
        network.register_forward_hook(partial(end, name))
    return spent


def _ours(options: argparse.Namespace) -> tuple[Tensor, dict[str, float]]:
    with Ours(options) as ours:
        made, measured = _timed(ours, ours.networks, options.repeat)
        return made, {**measured, "KSampler in its passes": min(ours.of_passes[1:])}


def _theirs(options: argparse.Namespace) -> tuple[Tensor, dict[str, float]]:
    from diffusers import StableDiffusionXLPipeline

    place, untyped = options.folder / "diffusers" / NAME, cast("Any", StableDiffusionXLPipeline)
    theirs = Theirs(options, lambda: untyped.from_pretrained(place, torch_dtype=torch.float32, add_watermarker=False))
    return _timed(theirs, theirs.networks, options.repeat)


def paired(options: argparse.Namespace) -> tuple[dict[str, float], float]:
    """(ours, theirs: the least CPU seconds of an image; KSampler in its passes; the PSNR) in one process, in turns, on
    the same weights: the pipeline gets the networks of the pool."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from graphflow_nodes.families.kits.clip_network import tokenizer_in

    torch.set_num_threads(options.threads)
    place = make_model(options.folder) / "diffusers" / NAME
    untyped: Any = (StableDiffusionXLPipeline, EulerDiscreteScheduler)
    with Ours(options) as ours:
        found = ours()
        held = {name: in_torchs_form(network) for name, network in ours.held.items()}
        held["vae"].register_to_config(scaling_factor=SCALE)  # ours stands in the latent format of the family
        theirs = Theirs(
            options,
            lambda: untyped[0](
                unet=held["denoiser"],
                vae=held["vae"],
                text_encoder=held["text.l"],
                text_encoder_2=held["text.g"],
                tokenizer=tokenizer_in(str(place / "tokenizer")),
                tokenizer_2=tokenizer_in(str(place / "tokenizer_2")),
                scheduler=untyped[1](**BETAS, timestep_spacing="leading"),
                force_zeros_for_empty_prompt=False,
                add_watermarker=False,
            ),
        )
        wanted, programs = theirs(), {"ours": ours, "theirs": theirs}
        least = dict.fromkeys(programs, math.inf)
        for _ in range(options.repeat):
            for name, image in programs.items():
                began = time.process_time()
                image()
                least[name] = min(least[name], time.process_time() - began)
        return {**least, "KSampler in its passes": min(ours.of_passes[1:])}, psnr(found, wanted)


class Ours:
    """Makes the image by GraphFlow when it is called. A context."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._graph = graph(options.pixels, options.steps)
        self.settings = gf.Settings(
            output_dir=options.folder / "output", models=(options.folder,), device="cpu", dtype="float32", compile="off"
        )
        self._engine = gf.Engine(settings=self.settings, cache=gf.Cache(memory=0))
        self.of_passes: list[float] = []
        """Of each image: the time of KSampler in that of its passes."""

    def __enter__(self) -> Ours:
        self._engine.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def __call__(self) -> Tensor:
        counts = open_device(self.settings).loop.counts
        before = counts.seconds
        result = self._engine.run(self._graph, targets=["8"])
        self.of_passes.append(result.timings["3"] / (counts.seconds - before))
        made: Tensor = next(iter(result["8"].outputs.values()))
        return made

    @property
    def held(self) -> dict[str, Any]:
        """The networks in memory by part."""
        return {part.part: part.module for part in open_device(self.settings).pool.parts}

    def networks(self) -> dict[str, Any]:
        held = self.held
        return {"U-Net": held["denoiser"], "decoder": held["vae"].decoder}


class Theirs:
    """Makes the image by diffusers' pipeline when it is called; the first call makes the pipeline."""

    def __init__(self, options: argparse.Namespace, pipeline: Callable[[], Any]) -> None:
        self._pixels, self._steps = options.pixels, options.steps
        self._noise = prepare_noise((1, 4, self._pixels // 8, self._pixels // 8), SEED)
        self._sigmas = schedule("normal", self._steps, Epsilon()).tolist()
        self._make = cache(pipeline)

    def __call__(self) -> Tensor:
        pipeline = self._make()
        pipeline.set_progress_bar_config(disable=True)
        found = pipeline(
            prompt=PROMPTS[0],
            negative_prompt=PROMPTS[1],
            guidance_scale=CFG,
            latents=self._noise.clone(),
            sigmas=self._sigmas,  # with the zero at the end: diffusers makes a step less than it is given levels
            output_type="pt",
            height=self._pixels,
            width=self._pixels,
        )
        assert len(pipeline.scheduler.timesteps) == self._steps, "the pipeline makes another number of passes"
        made: Tensor = found.images.movedim(1, -1).float()
        return made

    def networks(self) -> dict[str, Any]:
        pipeline = self._make()
        return {"U-Net": pipeline.unet, "decoder": pipeline.vae.decoder}


def graph(pixels: int, steps: int) -> gf.Workflow:
    words = {
        key: {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": text}}
        for key, text in zip("67", PROMPTS, strict=True)
    }
    sampler = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
        "seed": SEED,
        "steps": steps,
        "cfg": CFG,
        "scheduler": "normal",
    }
    return gf.Workflow.from_json(
        {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": NAME}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": pixels, "height": pixels}},
            **words,
            "3": {"class_type": "KSampler", "inputs": sampler},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        }
    )


@contextmanager
def anonymous_peak() -> Iterator[Callable[[], int]]:
    """The bytes of this process that were no pages of files, at the most while the block ran."""
    most, done = resident("RssAnon"), Event()

    def look() -> None:
        nonlocal most
        while not done.wait(LOOKS):
            most = max(most, resident("RssAnon"))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: most
    finally:
        done.set()
        thread.join()


def resident(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description="One program in a process of its own, for benchmarks.sampling")
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--image", type=Path, required=True, help="where the last image is written")
    parser.add_argument("--folder", type=Path, required=True)
    for name in ("pixels", "steps", "repeat", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(run_side(options.side, options)))


if __name__ == "__main__":
    main()
