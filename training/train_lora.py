"""Train the LoRA of the built-in model: everything in sepia.

    python -m training.train_lora --minutes 9

The base stays as it ships. Each Linear W of the transformers in the U-Net gets low-rank terms, W + (alpha / r) up down
(LoRA, arXiv 2106.09685), which learn the noise prediction on the pictures of `data.py` in shades of brown. What is
saved has the names that kohya's trainer writes, which every program reads.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from .data import Sample, caption, draw, load_sprites, pairs
from .modules import RUNS, SHIPPED, new_text_encoder, new_unet, new_vae, noise_schedule, restore, scale_of
from .train_tiny import to_tensor, tokens_of, weight_of

__all__ = ["LowRank", "adapted", "file_of", "sepia", "train"]

TARGET = Path(__file__).parent.parent / "nodes" / "builtin_adapters" / "loras" / "graphflow-tiny-sepia.safetensors"
RANK, ALPHA = 4, 4.0
DARK, LIGHT = np.array([38.0, 24.0, 12.0]), np.array([250.0, 226.0, 186.0])
LUMA = np.array([0.299, 0.587, 0.114])


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


def sepia(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the same in shades of brown."""
    share = (picture @ LUMA / 255.0)[..., None]
    return (DARK + share * (LIGHT - DARK)).round().astype(np.uint8)


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
def latents_of(vae: nn.Module, each: int) -> tuple[Tensor, list[Sample]]:
    """Latents of all pairs in sepia, several pictures each."""
    sprites, rng = load_sprites(), random.Random(11)
    samples = [sample for sample in pairs() for _ in range(each)]
    found = []
    for at in range(0, len(samples), 32):
        x = to_tensor([sepia(draw(sprites, sample, rng)) for sample in samples[at : at + 32]])
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
    minutes: float, target: Path, go_on: bool = False, each: int = 8, batch: int = 24, peak: float = 4e-3
) -> None:
    torch.manual_seed(int(go_on))
    vae, unet = new_vae(), new_unet()
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    text = new_text_encoder(tokenizer)
    for name, module in (("vae", vae), ("unet", unet), ("text", text)):
        restore(module, RUNS / "lora", name, SHIPPED)
        module.requires_grad_(False)
    latents, samples = latents_of(vae.eval(), each)
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
            group["lr"] = peak * min(1.0, step / 30) * (1 - 0.95 * done)
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
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--go-on", action="store_true", help="from the terms in the target")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.minutes, options.target, options.go_on)


if __name__ == "__main__":
    main()
