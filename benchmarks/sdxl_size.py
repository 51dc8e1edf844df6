"""A random model of Stable Diffusion XL's size, and the same image by GraphFlow and by diffusers' own pipeline:
`python -m benchmarks.sampling --size sdxl`

In float32 its weights are 14 GB, so each program runs in a process of its own, one after the other, in turns (ours,
theirs, ours, theirs). Both load the same diffusers folder (float16, 7 GB, written once) as their users do. Of each
process: the CPU seconds of an image, the least of some after the first one, and the memory at the peak, from the start
of the process to its last image. Images are compared through files.

Memory is counted twice: all that is resident (`VmHWM`), and what is not a page of a file, which the system cannot take
back (`RssAnon`, looked at 50 times a second).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor

import graphflow as gf

from .sd15_size import CFG, PROMPTS, SEED, psnr, write_random

__all__ = ["in_turns", "make_model", "resident", "run_side"]

NAME = "sdxl_size"
SIDES = ("ours", "theirs")
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LOOKS = 0.02
"""Seconds between two looks at the memory."""


def make_model(folder: Path) -> Path:
    """A models folder with the model, 7 GB; it is written once."""
    place = folder / "diffusers" / NAME
    if not (place / "model_index.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        _write_model(place)
    return folder


def _write_model(place: Path) -> None:
    """The networks are built without memory, for their names and shapes."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from graphflow_nodes.families.kits.clip import VOCABULARY
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    untyped: Any = (UNet2DConditionModel, AutoencoderKL, EulerDiscreteScheduler)
    with torch.device("meta"):
        unet = untyped[0](
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            projection_class_embeddings_input_dim=2816,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            use_linear_projection=True,
        )
        vae = untyped[1](
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=1024,
            scaling_factor=0.13025,
        )
        encoders = {
            "text_encoder": CLIPTextModel(_clip(768, 12, "quick_gelu")),
            "text_encoder_2": CLIPTextModelWithProjection(_clip(1280, 32, "gelu")),
        }
    for name, network in {"unet": unet, "vae": vae, **encoders}.items():
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        shapes = {one: tuple(weight.shape) for one, weight in network.named_parameters()}
        write_random(_made(place / name) / f"{stem}.safetensors", shapes)
        if isinstance(network.config, CLIPTextConfig):
            network.config.architectures = [type(network).__name__]  # as a model writes that is saved
            network.config.save_pretrained(place / name)
        else:
            network.save_config(place / name)
    untyped[2](**BETAS, timestep_spacing="leading").save_pretrained(place / "scheduler")
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        shutil.copytree(VOCABULARY, place / name)
        stated = place / name / "tokenizer_config.json"
        stated.write_text(json.dumps({**json.loads(stated.read_text()), "pad_token": pad}))
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": False, **parts}
    (place / "model_index.json").write_text(json.dumps(index))


def _clip(width: int, layers: int, act: str) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act=act,
        eos_token_id=49407,
        bos_token_id=49406,
    )


def _made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place


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


def _timed(image: Callable[[], Tensor], repeat: int) -> tuple[Tensor, dict[str, float]]:
    """The first image loads what is not loaded yet."""
    began = time.process_time()
    made = image()
    first, least = time.process_time() - began, math.inf
    for _ in range(repeat):
        began = time.process_time()
        made = image()
        least = min(least, time.process_time() - began)
    return made, {"s an image": least, "s the first": first}


def _ours(options: argparse.Namespace) -> tuple[Tensor, dict[str, float]]:
    from graphflow_nodes.devices.use import open_device

    settings = gf.Settings(
        output_dir=options.folder / "output", models=(options.folder,), device="cpu", dtype="float32", compile="off"
    )
    of_passes = []
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        counts = open_device(settings).loop.counts

        def image() -> Tensor:
            before = counts.seconds
            result = engine.run(graph(options.pixels, options.steps), targets=["8"])
            of_passes.append(result.timings["3"] / (counts.seconds - before))
            made: Tensor = next(iter(result["8"].outputs.values()))
            return made

        made, measured = _timed(image, options.repeat)
    return made, {**measured, "KSampler in its passes": min(of_passes[1:])}


def _theirs(options: argparse.Namespace) -> tuple[Tensor, dict[str, float]]:
    from diffusers import StableDiffusionXLPipeline
    from graphflow_nodes.model.prediction import Epsilon
    from graphflow_nodes.samplers.noise import prepare_noise
    from graphflow_nodes.samplers.schedules import schedule

    noise = prepare_noise((1, 4, options.pixels // 8, options.pixels // 8), SEED)
    sigmas = schedule("normal", options.steps, Epsilon()).tolist()
    untyped: Any = StableDiffusionXLPipeline
    held: list[Any] = []

    def image() -> Tensor:
        if not held:
            place = options.folder / "diffusers" / NAME
            held.append(untyped.from_pretrained(place, torch_dtype=torch.float32, add_watermarker=False))
            held[0].set_progress_bar_config(disable=True)
        found = held[0](
            prompt=PROMPTS[0],
            negative_prompt=PROMPTS[1],
            guidance_scale=CFG,
            latents=noise.clone(),
            sigmas=sigmas,  # with the zero at the end: diffusers makes a step less than it is given levels
            output_type="pt",
            height=options.pixels,
            width=options.pixels,
        )
        assert len(held[0].scheduler.timesteps) == options.steps, "the pipeline makes another number of passes"
        made: Tensor = found.images.movedim(1, -1).float()
        return made

    return _timed(image, options.repeat)


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
