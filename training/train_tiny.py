"""Train the built-in model: a latent diffusion model of Stable Diffusion's modules, small.

    python -m training.train_tiny                     # all of it, from new weights
    python -m training.train_tiny unet --minutes 60   # one part; each part goes on from its last checkpoint
    python -m training.train_tiny --shipped           # parts without a checkpoint go on from the weights that ship

1. `vae`: AutoencoderKL, reconstruction and a little shrinkage of the latents. 2. `unet`: U-Net and text encoder
together on cached latents, epsilon prediction (DDPM, arXiv 2006.11239, eq. 14), with an empty prompt now and then for
classifier-free guidance (arXiv 2207.12598). 3. `decoder`: only the decoder of the VAE, so that the U-Net stays valid.
4. `export`: the diffusers folder.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from .data import HELD_OUT, Sample, caption, draw, load_sprites, pairs
from .modules import (
    RUNS,
    SHIPPED,
    export,
    new_text_encoder,
    new_unet,
    new_vae,
    noise_schedule,
    restore,
    save,
    the_tokenizer,
)

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""
MINUTES = {"vae": 22.0, "unet": 55.0, "decoder": 12.0}
"""Of each part, with one thread of a CPU; the weights that ship were made so."""
HIGHEST_WEIGHT, LOWEST_WEIGHT = 8.0, 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    runs: Path
    """Where the checkpoints lie."""
    minutes: float
    """Wall clock of a part."""
    rate: float
    """Factor on the learning rate."""
    pictures: int
    """How many pictures of each pair the U-Net learns from."""
    shipped: Path | None
    """Folder that parts without a checkpoint start from; None for new weights."""


def tokens_of(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def batches(size: int, seed: int, any_colour: float = 0.5) -> Callable[[], Tensor]:
    """A function that draws [size,3,64,64] in -1..1: most on the named backgrounds, a share on any colour, so that the
    autoencoder learns colours, not eight of them. It never sees a caption, and it sees the pairs that are held out:
    what those show is whether the U-Net puts a thing and a background together."""
    sprites, rng, samples = load_sprites(), random.Random(seed), pairs()

    def one() -> np.ndarray:
        colour = tuple(rng.randrange(256) for _ in range(3)) if rng.random() < any_colour else None
        return draw(sprites, rng.choice(samples), rng, colour)

    def batch() -> Tensor:
        return to_tensor([one() for _ in range(size)])

    return batch


def to_tensor(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def rate(done: float) -> float:
    """Warm-up over the first 3 %, then half a cosine down to 2 %."""
    return min(1.0, done / 0.03 + 0.02) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train(
    name: str,
    minutes: float,
    parameters: list[Tensor],
    peak: float,
    loss: Callable[[], Tensor],
    keep: Callable[[], None],
    after: Callable[[], None] = lambda: None,
) -> None:
    """AdamW for some minutes of wall clock: a line every 100 steps, `keep()` now and then and at the end."""
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-4, betas=(0.9, 0.99))
    began = saved = time.monotonic()
    step, mean = 0, 0.0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = peak * rate(done)
        value = loss()
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        after()
        step += 1
        mean = value.item() if step == 1 else 0.98 * mean + 0.02 * value.item()
        if step % 100 == 0:
            print(f"{name}: step {step}, {100 * done:.0f} %, loss {mean:.4f}", flush=True)
        if time.monotonic() - saved > SAVE_EVERY:
            keep()
            saved = time.monotonic()
    keep()


def difference(y: Tensor, x: Tensor) -> Tensor:
    """L1 + L2 of the pictures, and L1 of their differences to the pixel below and beside: edges count twice."""
    error = y - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.pow(2).mean() + 0.5 * edges


def train_vae(plan: Plan, batch: int = 16) -> None:
    vae = new_vae()
    print("vae: from", restore(vae, plan.runs, "vae", plan.shipped))
    pictures = batches(batch, seed=int(time.time()))

    def loss() -> Tensor:
        x = pictures()
        z = vae.encode(x).latent_dist.mean
        y = vae.decode(z + 0.05 * torch.randn_like(z)).sample
        return difference(y, x) + 1e-3 * z.pow(2).mean()

    train("vae", plan.minutes, list(vae.parameters()), 2e-3 * plan.rate, loss, lambda: save(vae, plan.runs, "vae"))


def train_decoder(plan: Plan, batch: int = 16) -> None:
    vae = new_vae()
    print("decoder: from", restore(vae, plan.runs, "vae", plan.shipped))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    pictures = batches(batch, seed=int(time.time()), any_colour=0.1)

    def loss() -> Tensor:
        x = pictures()
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mean
        return difference(vae.decode(z + 0.08 * torch.randn_like(z)).sample, x)

    parameters = [p for p in vae.parameters() if p.requires_grad]
    train("decoder", plan.minutes, parameters, 1.5e-3 * plan.rate, loss, lambda: save(vae, plan.runs, "vae"))


@torch.no_grad()
def cached_latents(vae: AutoencoderKL, each: int) -> tuple[Tensor, list[Sample]]:
    """Latents of the pairs in training, several pictures each."""
    sprites, rng = load_sprites(), random.Random(5)
    samples = [sample for sample in pairs() if sample not in HELD_OUT for _ in range(each)]
    found = []
    for at in range(0, len(samples), 32):
        x = to_tensor([draw(sprites, sample, rng) for sample in samples[at : at + 32]])
        found.append(vae.encode(x).latent_dist.mean)
    return torch.cat(found), samples


@torch.no_grad()
def fit_preview(vae: AutoencoderKL) -> dict[str, list[Any]]:
    """The linear map from a latent to the colour of its 8 x 8 pixels that is best in the mean: a preview without the
    VAE."""
    pictures = batches(256, seed=7)()
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in pictures.split(32)])
    colours = F.avg_pool2d(pictures, 8).movedim(1, -1).reshape(-1, 3)
    x = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), colours).solution
    return {"weight": solution[:-1].tolist(), "bias": solution[-1].tolist()}


def weight_of(alphas_cumprod: Tensor) -> Tensor:
    """Weight of the loss at each timestep, mean 1.

    What a picture shows is decided where noise is high, and there the plain loss hardly sees an error of the picture:
    so 1 + 1/SNR (the loss of v prediction, arXiv 2202.00512) up to a bound; and 5/SNR where noise is low (arXiv
    2303.09556).
    """
    snr = alphas_cumprod / (1 - alphas_cumprod)
    weight = (1 + 1 / snr).clamp(max=HIGHEST_WEIGHT) * (5 / snr).clamp(LOWEST_WEIGHT, 1.0)
    return weight / weight.mean()


def train_unet(plan: Plan, batch: int = 48) -> None:
    vae = new_vae()
    restore(vae, plan.runs, "vae", plan.shipped)
    latents, samples = cached_latents(vae.eval(), plan.pictures)
    scale = 1 / latents.std().item()
    latents = latents * scale
    plan.runs.mkdir(parents=True, exist_ok=True)
    (plan.runs / "scale.json").write_text(json.dumps(scale))
    tokenizer = the_tokenizer(plan.runs, plan.shipped)
    both = torch.nn.ModuleDict({"unet": new_unet(), "text": new_text_encoder(tokenizer)})
    for name, module in both.items():
        print(f"{name}: from", restore(module, plan.runs, name, plan.shipped))
    mean = copy.deepcopy(both)
    schedule = noise_schedule()
    weights = weight_of(schedule.alphas_cumprod)
    rng = random.Random(int(time.time()))

    def loss() -> Tensor:
        chosen = [rng.randrange(len(samples)) for _ in range(batch)]
        x, t = latents[chosen], torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(x)
        context = both["text"](tokens_of(tokenizer, [caption(samples[i], rng) for i in chosen])).last_hidden_state
        answer = both["unet"](schedule.add_noise(x, noise, t), t, context).sample
        return (weights[t] * (answer - noise).pow(2).mean((1, 2, 3))).mean()

    steps = [0]

    @torch.no_grad()
    def average() -> None:
        steps[0] += 1
        decay = min(0.999, (1 + steps[0]) / (20 + steps[0]))
        for held, now in zip(mean.parameters(), both.parameters(), strict=True):
            held.lerp_(now, 1 - decay)

    def keep() -> None:
        for name, module in mean.items():
            save(module, plan.runs, name)

    train("unet", plan.minutes, list(both.parameters()), 1.2e-3 * plan.rate, loss, keep, average)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["all", "vae", "unet", "decoder", "export"], default="all")
    usual = ", ".join(f"{name} {minutes}" for name, minutes in MINUTES.items())
    parser.add_argument("--minutes", type=float, help=f"wall clock of each part (default: {usual})")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rate, below 1 to go on gently")
    parser.add_argument("--pictures", type=int, default=48, help="pictures of each pair for the U-Net")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shipped", action="store_true", help="start from the weights that ship with the package")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the checkpoints")
    parser.add_argument("--target", type=Path, default=SHIPPED, help="folder to export to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    shipped = SHIPPED if options.shipped else None
    parts = {"vae": train_vae, "unet": train_unet, "decoder": train_decoder}
    for name, part in parts.items():
        if options.part in (name, "all"):
            part(Plan(options.runs, options.minutes or MINUTES[name], options.rate, options.pictures, shipped))
    if options.part in ("export", "all"):
        export(options.runs, options.target, shipped, fit_preview)


if __name__ == "__main__":
    main()
