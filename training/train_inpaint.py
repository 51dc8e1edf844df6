"""Train the small U-Net that inpaints with the built-in model's text encoder and autoencoder.

    python -m training.train_inpaint --minutes 20

A U-Net for inpainting has 9 channels: the noisy latent, the mask, and the latent of the image with what is to be drawn
greyed out. A form of the built-in U-Net with these would be as large as that. This one is slim (a sixteenth of the
weights, one level), since it draws into a mask alone and sees what is around. Half of its captions name no background:
the image shows it.

A denoiser in a folder of its own has the latent unit of Stable Diffusion 1.x, whatever the autoencoder (`UNIT`); the
latents of the built-in autoencoder are a fifth as wide in that unit, and the weights of the loss allow for it.
"""

from __future__ import annotations

import argparse
import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from graphflow_nodes.families.stable_diffusion import LATENT
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPTokenizer

from .data import HELD_OUT, SIZE, Sample, captions, draw, load_sprites, pairs
from .modules import RUNS, SHIPPED, WIDTH, new_text_encoder, new_vae, noise_schedule, restore
from .train_tiny import to_tensor, tokens_of, weight_of
from .train_tiny import train as trained

__all__ = ["UNIT", "Holes", "made_holes", "new_inpainter", "train"]

TARGET = Path(__file__).parent.parent / "nodes" / "builtin_adapters" / "diffusion_models" / "graphflow-tiny-inpaint"
UNIT = float(str(LATENT["scale"]))
OUTSIDE = 0.2
"""The weight of the loss outside of the mask."""
GRID = 4
"""Pixels by which the sides of masks differ."""


def new_inpainter() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=9,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        time_embedding_dim=96,
    )


@dataclass(frozen=True, slots=True)
class Holes:
    """Images with a mask each."""

    latents: Tensor
    """[N, 4, 8, 8] in UNIT, of the whole image."""
    masks: Tensor
    """[N, 1, 8, 8] of 0 and 1."""
    around: Tensor
    """[N, 4, 8, 8] in UNIT, of the image that is grey inside the mask."""
    samples: list[Sample]


def a_mask(rng: random.Random) -> Tensor:
    """[1, 64, 64]: most often a large box in the middle, else a box anywhere, a half, or all."""
    mask, chance = torch.zeros(1, SIZE, SIZE), rng.random()
    if chance < 0.5:
        side = rng.randrange(32, 60 + GRID, GRID)
        left, top = ((SIZE - side) // 2 + rng.choice((-GRID, 0, 0, GRID)) for _ in range(2))
        mask[:, max(0, top) : top + side, max(0, left) : left + side] = 1
    elif chance < 0.75:
        width, height = (rng.randrange(16, 52, GRID) for _ in range(2))
        left, top = rng.randrange(0, SIZE - width, GRID), rng.randrange(0, SIZE - height, GRID)
        mask[:, top : top + height, left : left + width] = 1
    elif chance < 0.95:
        half = slice(0, SIZE // 2) if rng.random() < 0.5 else slice(SIZE // 2, SIZE)
        mask[(slice(None), half) if rng.random() < 0.5 else (slice(None), slice(None), half)] = 1
    else:
        mask[:] = 1
    return mask


@torch.no_grad()
def made_holes(vae: AutoencoderKL, each: int, masks: int, seed: int = 5) -> Holes:
    """Of the pairs in training; `masks` of each image. Every other image has passed the autoencoder before, as what the
    model draws."""
    sprites, rng = load_sprites(), random.Random(seed)
    samples = [sample for sample in pairs() if sample not in HELD_OUT for _ in range(each)]
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for at in range(0, len(samples), 32):
        x = to_tensor([draw(sprites, sample, rng) for sample in samples[at : at + 32]])
        z = vae.encode(x).latent_dist.mean
        passed = torch.rand(len(x), 1, 1, 1) < 0.5
        x = torch.where(passed, vae.decode(z).sample.clamp(-1, 1), x)
        z = torch.where(passed, vae.encode(x).latent_dist.mean, z)
        for _ in range(masks):
            cover = torch.stack([a_mask(rng) for _ in x])
            around = vae.encode(x * (1 - cover)).latent_dist.mean  # grey is 0
            cells = interpolate(cover, size=z.shape[-2:], mode="bilinear").round()  # as a denoiser of 9 channels does
            found.append((UNIT * z, cells, UNIT * around))
    latents, cells, around = (torch.cat(parts) for parts in zip(*found, strict=True))
    ordered = [one for at in range(0, len(samples), 32) for _ in range(masks) for one in samples[at : at + 32]]
    return Holes(latents, cells, around, ordered)


def caption(sample: Sample, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.1:
        return ""
    named = rng.choice(captions(sample))
    return named if chance < 0.5 else captions(sample)[0].removesuffix(f" on a {sample.background} background")


def write(unet: UNet2DConditionModel, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(unet).half().save_pretrained(target)


def train(
    minutes: float,
    target: Path,
    go_on: bool = False,
    each: int = 24,
    masks: int = 3,
    batch: int = 64,
    peak: float = 2e-3,
) -> None:
    torch.manual_seed(int(go_on))
    vae = new_vae()
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    text = new_text_encoder(tokenizer)
    for name, module in (("vae", vae), ("text", text)):
        restore(module, RUNS / "inpaint", name, SHIPPED)
        module.requires_grad_(False)
    holes = made_holes(vae.eval(), each, masks, seed=5 + go_on)
    unet = new_inpainter()
    if go_on:
        held = load_file(target / "diffusion_pytorch_model.safetensors")
        unet.load_state_dict({name: tensor.float() for name, tensor in held.items()})
    mean = copy.deepcopy(unet)
    schedule = noise_schedule()
    wide = holes.latents.var().item()  # the signal's power, which is 1 in the unit of a model of its own
    alphas = schedule.alphas_cumprod
    weights = weight_of(wide * alphas / (wide * alphas + 1 - alphas))
    rng, states, steps = random.Random(3 + go_on), dict[str, Tensor](), [0]

    def loss() -> Tensor:
        chosen = [rng.randrange(len(holes.samples)) for _ in range(batch)]
        texts = [caption(holes.samples[i], rng) for i in chosen]
        for one in set(texts) - states.keys():
            states[one] = text(tokens_of(tokenizer, [one])).last_hidden_state[0]
        x, cover, t = holes.latents[chosen], holes.masks[chosen], torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(x)
        given = torch.cat([schedule.add_noise(x, noise, t), cover, holes.around[chosen]], 1)
        answer = unet(given, t, torch.stack([states[one] for one in texts])).sample
        where = OUTSIDE + (1 - OUTSIDE) * cover
        return (weights[t] * (where * (answer - noise).pow(2)).mean((1, 2, 3))).mean()

    @torch.no_grad()
    def average() -> None:
        steps[0] += 1
        decay = min(0.998, (1 + steps[0]) / (20 + steps[0]))
        for slow, now in zip(mean.parameters(), unet.parameters(), strict=True):
            slow.lerp_(now, 1 - decay)

    trained("inpaint", minutes, list(unet.parameters()), peak, loss, lambda: write(mean, target), average)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder to write (default: the package's)")
    parser.add_argument("--go-on", action="store_true", help="from the weights in the target")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.minutes, options.target, options.go_on)


if __name__ == "__main__":
    main()
