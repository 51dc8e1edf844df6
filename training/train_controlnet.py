"""Train the ControlNet of the built-in model: a drawing follows the edges of an image.

    python -m training.train_controlnet --minutes 40

A ControlNet (arXiv 2302.05543) is a copy of the half of the U-Net that goes down, which sees the edges (`Canny`) as
well; what it adds to the U-Net begins at zero. This one is slim: residual blocks alone, as the small ones of SDXL, in
diffusers' layout. Half of its captions name the background only, so that it learns to find the thing in the edges.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from graphflow_nodes.library.edges import edges
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from .data import Sample, captions, draw, load_sprites, pairs
from .modules import RUNS, SHIPPED, WIDTH, new_text_encoder, new_unet, new_vae, noise_schedule, restore, scale_of
from .train_tiny import to_tensor, tokens_of, weight_of

__all__ = ["LOW", "HIGH", "hint_of", "new_controlnet", "train"]

TARGET = Path(__file__).parent.parent / "nodes" / "builtin_adapters" / "controlnet" / "graphflow-tiny-edges"
LOW, HIGH = 0.2, 0.4
"""Thresholds of the edges."""
SHIFT = 6
"""Pixels by which a thing lies beside the middle, at most: more than the base was trained with, so that edges tell
something that no prompt does."""
SAVE_EVERY = 120.0
"""Seconds."""


def new_controlnet(unet: nn.Module) -> ControlNetModel:
    """With the U-Net's own weights where it has the same blocks."""
    control = ControlNetModel(
        in_channels=4,
        conditioning_channels=3,
        block_out_channels=(64, 120),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        conditioning_embedding_out_channels=(4, 8, 16, 32),
    )
    own = control.state_dict()
    shared = {name: value for name, value in unet.state_dict().items() if name in own}
    control.load_state_dict({**own, **shared})
    return control


def hint_of(images: Tensor) -> Tensor:
    """[N, 3, H, W] in -1..1 -> their edges as the node Canny gives them, [N, 3, H, W] of 0 and 1."""
    found = edges((images.movedim(1, -1) + 1) / 2, LOW, HIGH)
    return found[:, None].expand(-1, 3, -1, -1).contiguous()


def caption(sample: Sample, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.1:
        return ""
    return f"{sample.background} background" if chance < 0.55 else rng.choice(captions(sample))


@torch.no_grad()
def prepared(vae: nn.Module, each: int) -> tuple[Tensor, Tensor, list[Sample]]:
    """Latents and hints of all pairs, several images each; half of them mirrored, and half of the hints from decoded
    images: edges of what the model itself draws are softer."""
    sprites, rng = load_sprites(), random.Random(17)
    samples = [sample for sample in pairs() for _ in range(each)]
    latents, hints = [], []
    for at in range(0, len(samples), 32):
        images = [draw(sprites, sample, rng, shift=SHIFT) for sample in samples[at : at + 32]]
        x = to_tensor([np.flip(image, 1) if rng.random() < 0.5 else image for image in images])
        latents.append(vae.encode(x).latent_dist.mean)
        decoded = vae.decode(latents[-1]).sample
        hints.append(hint_of(torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, decoded)))
    return torch.cat(latents), torch.cat(hints), samples


def write(control: ControlNetModel, target: Path, config: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().half().contiguous() for name, value in control.state_dict().items()}
    new = target / "new.safetensors"
    save_file(tensors, new, {"format": "pt"})
    new.rename(target / "diffusion_pytorch_model.safetensors")
    (target / "config.json").write_text(config, encoding="utf-8")


def train(
    minutes: float, target: Path, go_on: bool = False, each: int = 12, batch: int = 24, peak: float = 1e-3
) -> None:
    torch.manual_seed(5 + go_on)
    vae, unet = new_vae(), new_unet()
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    text = new_text_encoder(tokenizer)
    for name, module in (("vae", vae), ("unet", unet), ("text", text)):
        restore(module, RUNS / "controlnet", name, SHIPPED)
        module.requires_grad_(False)
    latents, hints, samples = prepared(vae.eval(), each)
    latents = latents * scale_of(RUNS / "controlnet", SHIPPED)
    control = new_controlnet(unet)
    if go_on:
        held = load_file(target / "diffusion_pytorch_model.safetensors")
        control.load_state_dict({name: value.float() for name, value in held.items()})
    stated = {name: value for name, value in control.config.items() if not name.startswith("_")}
    config = json.dumps({"_class_name": "ControlNetModel", **stated}, indent=2) + "\n"
    optimiser = torch.optim.AdamW(control.parameters(), lr=peak, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = noise_schedule()
    weights, rng = weight_of(schedule.alphas_cumprod), random.Random(3 + go_on)
    began = saved = time.monotonic()
    step, mean = 0, 0.0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 50) * (1 - 0.95 * done)
        chosen = [rng.randrange(len(samples)) for _ in range(batch)]
        x, t = latents[chosen], torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(x)
        context = text(tokens_of(tokenizer, [caption(samples[i], rng) for i in chosen])).last_hidden_state
        noised = schedule.add_noise(x, noise, t)
        down, mid = control(noised, t, context, hints[chosen], return_dict=False)
        answer = unet(
            noised, t, context, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample
        loss = (weights[t] * (answer - noise).pow(2).mean((1, 2, 3))).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(control.parameters(), 1.0)
        optimiser.step()
        step += 1
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"step {step}, {100 * done:.0f} %, loss {mean:.4f}", flush=True)
        if time.monotonic() - saved > SAVE_EVERY:
            write(control, target, config)
            saved = time.monotonic()
    write(control, target, config)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--go-on", action="store_true", help="from the weights in the target")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.minutes, options.target, options.go_on)


if __name__ == "__main__":
    main()
