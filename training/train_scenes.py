"""Train the model of scenes: one or two things on a background, 128 x 128 pixels.

    python -m training.train_scenes vae --steps 4000      # each part goes on from its state, with the same bits
    python -m training.train_scenes latents               # encode the training images once
    python -m training.train_scenes denoiser --steps 60000
    python -m training.train_scenes decoder --steps 3000  # only the decoder, so that the denoiser stays valid
    python -m training.train_scenes export --target FOLDER

1. `vae`: AutoencoderKL, reconstruction and a little shrinkage of the latents. 2. `denoiser`: U-Net and text encoder
together on the encoded images, epsilon prediction (DDPM, arXiv 2006.11239, eq. 14), with an empty caption now and then
for classifier-free guidance (arXiv 2207.12598). 3. `decoder`. 4. `export`: the diffusers folder.

More steps than a state has made continue it. The bits depend on the device and on `--threads`. On a GPU,
`--device cuda --batch 256 --workers 12` draws the images in other processes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from graphflow_nodes.training.attention import fast_attention
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .modules import SHIPPED, noise_schedule, restore, write_folder
from .resumable import Course, averaged, steps_made, train
from .scene_model import new_text_encoder, new_unet, new_vae, the_tokenizer
from .scenes import BACKGROUNDS, THINGS, Scene, captions, draw, is_held_out, load_things, singles
from .train_tiny import difference, tokens_of, weight_of

__all__ = ["Run", "cached_latents", "export", "train_decoder", "train_denoiser", "train_vae"]

RUNS = Path(__file__).with_name("runs") / "scenes"
NO_CAPTION = 0.1
BATCHES = {"vae": 8, "decoder": 8, "denoiser": 64}
RATES = {"vae": 1.5e-3, "decoder": 1e-3, "denoiser": 1e-3}


@dataclass(frozen=True, slots=True)
class Run:
    """Where a part is trained, and how long."""

    folder: Path
    """Of the states."""
    course: Course
    batch: int
    device: str = "cpu"
    workers: int = 0
    """Processes that draw images; 0: this one."""
    each: int = 8
    """Encoded images of each thing on each background that training shows."""
    pairs: int = 24_000
    """Encoded images of two things."""

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.pt"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16)

    def normal(self, like: Tensor, purpose: str, step: int) -> Tensor:
        """Standard normal, a function of the step."""
        return torch.randn(like.shape, generator=_generator(purpose, step)).to(self.device)


def _rng(purpose: str, step: int) -> random.Random:
    return random.Random(f"{purpose} {step}")


def _generator(purpose: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(_rng(purpose, step).getrandbits(62))


def random_scene(rng: random.Random, two: float) -> Scene:
    """Two things with a chance of `two`, otherwise one."""
    count = 2 if rng.random() < two else 1
    return Scene(tuple(rng.sample(list(THINGS), count)), rng.choice(list(BACKGROUNDS)))


@cache
def _sprites() -> dict[str, Image.Image]:
    return load_things()


def pictures(purpose: str, size: int, any_colour: float, step: int) -> np.ndarray:
    """A batch for the autoencoder, uint8 [N, 128, 128, 3]: most on the named backgrounds, a share on any colour, so
    that it learns colours, not ten of them. It sees no captions, and also the scenes that are held out."""
    rng, things, found = _rng(purpose, step), _sprites(), []
    for _ in range(size):
        colour = tuple(rng.randrange(256) for _ in range(3)) if rng.random() < any_colour else None
        found.append(draw(things, random_scene(rng, two=0.6), rng, colour))
    return np.stack(found)


def ahead(stack: ExitStack, run: Run, draw_at: Callable[[int], np.ndarray], first: int) -> Callable[[int], Tensor]:
    """`draw_at(step)` as a tensor in -1..1 on the device, for steps one after another: drawn by the workers before
    they are asked for."""
    if not run.workers:
        return lambda step: _to_device(draw_at(step), run.device)
    pool = stack.enter_context(ProcessPoolExecutor(run.workers, mp_context=get_context("spawn")))
    waiting = deque((step, pool.submit(draw_at, step)) for step in range(first, first + 3 * run.workers))

    def at(step: int) -> Tensor:
        number, future = waiting.popleft()
        assert number == step
        waiting.append((step + 3 * run.workers, pool.submit(draw_at, step + 3 * run.workers)))
        return _to_device(future.result(), run.device)

    return at


def _to_device(images: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(run: Run) -> None:
    """From the autoencoder of 64 pixels of the package: it is convolutional, and knows edges and colours."""
    vae = new_vae()
    restore(vae, run.folder / "none", "vae", SHIPPED)
    vae.to(run.device)
    with ExitStack() as stack:
        images = ahead(stack, run, partial(pictures, "vae", run.batch, 0.5), steps_made(run.path("vae")))

        def loss_at(step: int) -> Tensor:
            x = images(step)
            with run.autocast():
                z = vae.encode(x).latent_dist.mean
                y = vae.decode(z + 0.05 * run.normal(z, "vae noise", step)).sample
            return difference(y.float(), x) + 1e-3 * z.float().pow(2).mean()

        train(run.path("vae"), vae, run.course, loss_at)


def train_decoder(run: Run) -> None:
    """The decoder alone, with more noise on the latents: it forgives what a denoiser leaves."""
    vae = averaged(run.path("vae"), new_vae()).train().to(run.device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    with ExitStack() as stack:
        images = ahead(stack, run, partial(pictures, "decoder", run.batch, 0.1), steps_made(run.path("decoder")))

        def loss_at(step: int) -> Tensor:
            x = images(step)
            with run.autocast():
                with torch.no_grad():
                    z = vae.encode(x).latent_dist.mean.float()
                y = vae.decode(z + 0.08 * run.normal(z, "decoder noise", step)).sample
            return difference(y.float(), x)

        train(run.path("decoder"), vae, run.course, loss_at)


def training_scenes(run: Run) -> tuple[list[Scene], int]:
    """What the encoded images show, and how many of them (the first ones) show one thing."""
    rng = random.Random(5)
    scenes = [scene for scene in singles() if not is_held_out(scene) for _ in range(run.each)]
    first = len(scenes)
    while len(scenes) < first + run.pairs:
        scene = random_scene(rng, two=1.0)
        if not is_held_out(scene):
            scenes.append(scene)
    return scenes, first


def drawn_scenes(scenes: list[Scene], number: int) -> np.ndarray:
    """uint8 [N, 128, 128, 3]; `number`: of the batch, of which size and place of the things are functions."""
    rng, things = _rng("latents", number), _sprites()
    return np.stack([draw(things, scene, rng) for scene in scenes])


@torch.no_grad()
def cached_latents(run: Run) -> Tensor:
    """Latents of unit variance [N, 4, 16, 16] of `training_scenes`."""
    path, size = run.path("latents"), 32
    if not path.exists():
        scenes, _ = training_scenes(run)
        vae, found = averaged(run.path("vae"), new_vae()).to(run.device), []
        batches = [scenes[at : at + size] for at in range(0, len(scenes), size)]
        for number, batch in enumerate(batches):
            with run.autocast():
                found.append(vae.encode(_to_device(drawn_scenes(batch, number), run.device)).latent_dist.mean.cpu())
            if number % 50 == 0:
                print(f"latents: {number} of {len(batches)} batches", flush=True)
        latents = torch.cat(found).float()
        scale = 1 / latents.std().item()
        torch.save((latents * scale).half(), path.with_suffix(".new"))
        (run.folder / "scale.json").write_text(json.dumps(scale))
        path.with_suffix(".new").replace(path)
    latents = torch.load(path, weights_only=True).float()
    return latents


def train_denoiser(run: Run) -> None:
    latents = cached_latents(run).to(run.device)
    scenes, first = training_scenes(run)
    tokenizer = the_tokenizer(run.folder / "tokenizer")
    tokens = tokens_of(tokenizer, ["", *(text for scene in scenes for text in captions(scene))])
    counts = [len(captions(scene)) for scene in scenes]
    starts = np.cumsum([1, *counts[:-1]]).tolist()
    torch.manual_seed(0)
    both = nn.ModuleDict({"unet": new_unet(), "text": new_text_encoder(tokenizer)}).to(run.device)
    schedule = noise_schedule()
    weights = weight_of(schedule.alphas_cumprod)

    def loss_at(step: int) -> Tensor:
        rng = _rng("denoiser", step)
        chosen = [rng.randrange(first) if i % 2 else rng.randrange(first, len(scenes)) for i in range(run.batch)]
        texts = [0 if rng.random() < NO_CAPTION else starts[i] + rng.randrange(counts[i]) for i in chosen]
        t = torch.randint(0, 1000, (run.batch,), generator=_generator("level", step))
        x = latents[chosen]
        noise = run.normal(x, "noise", step)
        with run.autocast(), fast_attention(run.device, x):
            context = both["text"](tokens[texts].to(run.device)).last_hidden_state
            answer = both["unet"](schedule.add_noise(x, noise, t), t.to(run.device), context).sample
        errors = (answer.float() - noise).pow(2).mean((1, 2, 3))
        return (weights[t].to(run.device) * errors).mean()

    train(run.path("denoiser"), both, run.course, loss_at)


@torch.no_grad()
def fit_preview(vae: AutoencoderKL) -> dict[str, object]:
    """The linear map from a latent to the mean colour of its 8 x 8 pixels: a preview without the VAE."""
    images = _to_device(pictures("preview", 128, 0.5, 0), "cpu")
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(32)])
    colours = F.avg_pool2d(images, 8).movedim(1, -1).reshape(-1, 3)
    x = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), colours).solution
    return {"weight": solution[:-1].tolist(), "bias": solution[-1].tolist()}


def export(folder: Path, target: Path) -> None:
    """The diffusers folder of the averages of a run, in float16."""
    tokenizer = the_tokenizer(folder / "tokenizer")
    both = nn.ModuleDict({"unet": new_unet(), "text": new_text_encoder(tokenizer)})
    averaged(folder / "denoiser.pt", both)
    name = "decoder" if (folder / "decoder.pt").exists() else "vae"
    vae = new_vae()
    averaged(folder / f"{name}.pt", vae)
    preview = fit_preview(vae)
    vae.register_to_config(scaling_factor=float(json.loads((folder / "scale.json").read_text())))
    write_folder(target, vae, both["unet"], both["text"], folder / "tokenizer", preview)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["vae", "latents", "denoiser", "decoder", "export"])
    parser.add_argument("--steps", type=int, default=4000, help="of the part in all, those already made among them")
    parser.add_argument("--rate", type=float, help="the highest learning rate")
    parser.add_argument("--fall", type=float, default=0.3, help="share of the steps in which the rate falls")
    parser.add_argument("--batch", type=int, help=", ".join(f"{name} {size}" for name, size in BATCHES.items()))
    parser.add_argument("--each", type=int, default=8, help="encoded images of each thing on each background")
    parser.add_argument("--pairs", type=int, default=24_000, help="encoded images of two things")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the states")
    parser.add_argument("--target", type=Path, help="folder to export to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.part == "export":
        if options.target is None:
            parser.error("export wants a --target folder")
        return export(options.runs, options.target)
    decay = 0.999 if options.part == "denoiser" else 0.995
    rate = options.rate or RATES.get(options.part, 0.0)
    run = Run(
        folder=options.runs,
        course=Course(options.steps, rate, fall=options.fall, decay=decay),
        batch=options.batch or BATCHES.get(options.part, 32),
        device=options.device,
        workers=options.workers,
        each=options.each,
        pairs=options.pairs,
    )
    parts = {"vae": train_vae, "latents": cached_latents, "denoiser": train_denoiser, "decoder": train_decoder}
    parts[options.part](run)


if __name__ == "__main__":
    main()
