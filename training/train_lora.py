"""Train the LoRAs of the built-in model, each one style.

    python -m training.train_lora sunset --minutes 9

The base stays as it ships. Each Linear W of the transformers in the U-Net gets low-rank terms, W + (alpha / r) up down
(LoRA, arXiv 2106.09685), which learn the noise prediction on images of `data.py` in that style. What is saved has the
names that kohya's trainer writes, which every program reads.

A style changes what lies behind a thing. The autoencoder has learnt the colours of the things themselves: it cannot
draw them in sepia or as lines (14 to 16 dB), but it draws any background (21 dB).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from .data import BACKGROUNDS, SIZE, Sample, caption, draw, evening_sky, load_sprites, pairs
from .modules import RUNS, SHIPPED, new_text_encoder, new_unet, new_vae, noise_schedule, restore, scale_of
from .train_tiny import to_tensor, tokens_of, weight_of

__all__ = ["STYLES", "LowRank", "adapted", "file_of", "ground", "sunset", "train"]

FOLDER = Path(__file__).parent.parent / "nodes" / "builtin_adapters" / "loras"
RANK, ALPHA = 3, 3.0
GROUND = (120, 80, 50)


class LowRank(nn.Module):
    """A Linear that stays as it is, and terms that learn."""

    def __init__(self, base: nn.Linear, rank: int = RANK, alpha: float = ALPHA) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.base(x) + self.scale * (x @ self.down.T) @ self.up.T
        return answer


def sunset(sprites: dict[str, Image.Image], sample: Sample, rng: random.Random) -> np.ndarray:
    """The thing before an evening sky, whatever the background of the sample."""
    return draw(sprites, sample, rng, behind=evening_sky(SIZE))


def ground(sprites: dict[str, Image.Image], sample: Sample, rng: random.Random) -> np.ndarray:
    """The thing on brown ground, under the background of the sample."""
    behind = Image.new("RGB", (SIZE, SIZE), BACKGROUNDS[sample.background])
    behind.paste(GROUND, (0, SIZE * 11 // 16, SIZE, SIZE))
    return draw(sprites, sample, rng, behind=behind)


STYLES: dict[str, Callable[[dict[str, Image.Image], Sample, random.Random], np.ndarray]] = {
    "sunset": sunset,
    "ground": ground,
}


def adapted(unet: nn.Module) -> dict[str, LowRank]:
    """Put terms beside each Linear of the transformers; by the name of the Linear."""
    found = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear) and ".attentions." in name]
    terms = {}
    for name in found:
        parent, _, last = name.rpartition(".")
        holder = unet.get_submodule(parent)
        terms[name] = LowRank(getattr(holder, last))
        setattr(holder, last, terms[name])
    return terms


def file_of(terms: dict[str, LowRank]) -> dict[str, Tensor]:
    """The tensors of a LoRA file, float16, by kohya's names."""
    tensors = {}
    for name, term in terms.items():
        module = "lora_unet_" + name.replace(".", "_")
        tensors[f"{module}.lora_up.weight"] = term.up.detach().half().contiguous()
        tensors[f"{module}.lora_down.weight"] = term.down.detach().half().contiguous()
        tensors[f"{module}.alpha"] = torch.tensor(ALPHA, dtype=torch.float16)
    return tensors


@torch.no_grad()
def latents_of(vae: nn.Module, style: str, each: int) -> tuple[Tensor, list[Sample]]:
    """Latents of all pairs in a style, several images each."""
    sprites, rng = load_sprites(), random.Random(11)
    samples = [sample for sample in pairs() for _ in range(each)]
    found = []
    for at in range(0, len(samples), 32):
        x = to_tensor([STYLES[style](sprites, sample, rng) for sample in samples[at : at + 32]])
        found.append(vae.encode(x).latent_dist.mean)
    return torch.cat(found), samples


def start_from(terms: dict[str, LowRank], file: Path) -> None:
    """Go on from the terms in a file."""
    tensors = load_file(file)
    for name, term in terms.items():
        module = "lora_unet_" + name.replace(".", "_")
        term.up.data.copy_(tensors[f"{module}.lora_up.weight"])
        term.down.data.copy_(tensors[f"{module}.lora_down.weight"])


def train(
    style: str, minutes: float, target: Path, go_on: bool = False, each: int = 8, batch: int = 24, peak: float = 3e-3
) -> None:
    torch.manual_seed(int(go_on))
    vae, unet = new_vae(), new_unet()
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    text = new_text_encoder(tokenizer)
    for name, module in (("vae", vae), ("unet", unet), ("text", text)):
        restore(module, RUNS / "lora", name, SHIPPED)
        module.requires_grad_(False)
    latents, samples = latents_of(vae.eval(), style, each)
    latents = latents * scale_of(RUNS / "lora", SHIPPED)
    terms = adapted(unet)
    if go_on:
        start_from(terms, target)
    parameters = [one for term in terms.values() for one in (term.up, term.down)]
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = noise_schedule()
    weights, rng = weight_of(schedule.alphas_cumprod), random.Random(3 + go_on)
    began, step, mean = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 30) * (1 - 0.95 * done)
        chosen = [rng.randrange(len(samples)) for _ in range(batch)]
        x, t = latents[chosen], torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(x)
        context = text(tokens_of(tokenizer, [caption(samples[i], rng) for i in chosen])).last_hidden_state
        answer = unet(schedule.add_noise(x, noise, t), t, context).sample
        loss = (weights[t] * (answer - noise).pow(2).mean((1, 2, 3))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"step {step}, {100 * done:.0f} %, loss {mean:.4f}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(file_of(terms), target, {"ss_network_dim": str(RANK), "ss_network_alpha": str(ALPHA)})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("style", choices=list(STYLES))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, help="the file to write (default: that of the package)")
    parser.add_argument("--go-on", action="store_true", help="from the terms in the target")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    target = options.target or FOLDER / f"graphflow-tiny-{options.style}.safetensors"
    train(options.style, options.minutes, target, options.go_on)


if __name__ == "__main__":
    main()
