"""Train the built-in model: a latent diffusion model of Stable Diffusion's modules, small.

    python -m training.train_tiny                     # all of it
    python -m training.train_tiny vae --minutes 60    # one part; each part goes on from its last checkpoint

1. `vae`: AutoencoderKL with L1 + L2 + a little KL. 2. `decoder`: only the decoder, its latents being fixed.
3. `unet`: U-Net and text encoder together on cached latents, epsilon prediction (DDPM, arXiv 2006.11239, eq. 14),
with an empty prompt now and then for classifier-free guidance (arXiv 2207.12598). 4. `export`: the diffusers folder.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .data import HELD_OUT, Sample, caption, draw, load_sprites, pairs

RUNS = Path(__file__).with_name("runs")
TARGET = Path(__file__).parent.parent / "nodes" / "models" / "builtin" / "graphflow-tiny"
WIDTH = 96


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1, norm_num_groups=4, sample_size=64,
        block_out_channels=(12, 24, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(64, 120),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=8, norm_num_groups=8,
    )  # fmt: skip


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=77, projection_dim=WIDTH, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    ))  # fmt: skip


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's own two files, learnt from the captions."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    model = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rng = random.Random(0)
    text = [caption(sample, rng) for sample in pairs() for _ in range(8)]
    model.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, end_of_word_suffix="</w>")
    )
    merges = [tuple(pair) for pair in json.loads(model.to_str())["model"]["merges"]]
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    unique = list(dict.fromkeys(tokens))
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(unique)}), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def tokens_of(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def batches(samples: list[Sample], size: int, seed: int) -> Callable[[], Tensor]:
    """A function that draws [size,3,64,64] in -1..1."""
    sprites, rng = load_sprites(), random.Random(seed)

    def batch() -> Tensor:
        pictures = np.stack([draw(sprites, rng.choice(samples), rng) for _ in range(size)])
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1

    return batch


def rate(done: float) -> float:
    """Warm-up over the first 3 %, then half a cosine down to 2 %."""
    return min(1.0, done / 0.03 + 0.02) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train(
    name: str,
    minutes: float,
    parameters: list[Tensor],
    peak: float,
    loss: Callable[[], Tensor],
    after: Callable[[], None],
) -> None:
    """Adam for some minutes of wall clock, a line every 200 steps."""
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-4, betas=(0.9, 0.99))
    began, step, mean = time.monotonic(), 0, 0.0
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


def save(module: torch.nn.Module, name: str) -> None:
    RUNS.mkdir(exist_ok=True)
    torch.save(module.state_dict(), RUNS / f"{name}.new")
    (RUNS / f"{name}.new").rename(RUNS / f"{name}.pt")


def restore(module: torch.nn.Module, name: str) -> bool:
    path = RUNS / f"{name}.pt"
    if path.exists():
        module.load_state_dict(torch.load(path, weights_only=True))
    return path.exists()


def train_vae(minutes: float, batch: int = 16) -> None:
    vae = new_vae()
    restore(vae, "vae")
    pictures = batches(pairs(), batch, seed=int(time.time()))

    def loss() -> Tensor:
        x = pictures()
        posterior = vae.encode(x).latent_dist
        z = posterior.mean + 0.02 * torch.randn_like(posterior.mean)
        y = vae.decode(z).sample
        return F.l1_loss(y, x) + F.mse_loss(y, x) + 1e-3 * posterior.mean.pow(2).mean()

    train("vae", minutes, list(vae.parameters()), 3e-3, loss, lambda: None)
    save(vae, "vae")


def train_decoder(minutes: float, batch: int = 16) -> None:
    vae = new_vae()
    restore(vae, "vae")
    if (RUNS / "decoder.pt").exists():
        vae.load_state_dict(torch.load(RUNS / "decoder.pt", weights_only=True))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    pictures = batches(pairs(), batch, seed=int(time.time()))

    def loss() -> Tensor:
        x = pictures()
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mean
        y = vae.decode(z + 0.05 * torch.randn_like(z)).sample
        return F.l1_loss(y, x) + F.mse_loss(y, x)

    saved = [time.monotonic()]

    def after() -> None:
        if time.monotonic() - saved[0] > 20:
            save(vae, "decoder")
            saved[0] = time.monotonic()

    train("decoder", minutes, [p for p in vae.parameters() if p.requires_grad], 2e-3, loss, after)
    save(vae, "decoder")


@torch.no_grad()
def cached_latents(vae: AutoencoderKL, each: int = 24) -> tuple[Tensor, list[Sample]]:
    """Latents of the pairs in training, several pictures each."""
    sprites, rng = load_sprites(), random.Random(5)
    samples = [sample for sample in pairs() if sample not in HELD_OUT for _ in range(each)]
    found = []
    for at in range(0, len(samples), 32):
        pictures = np.stack([draw(sprites, sample, rng) for sample in samples[at : at + 32]])
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append(vae.encode(x).latent_dist.mean)
    return torch.cat(found), samples


def train_unet(minutes: float, batch: int = 64) -> None:
    vae = new_vae()
    restore(vae, "vae")
    vae.eval()
    latents, samples = cached_latents(vae)
    scale = 1 / latents.std().item()
    latents = latents * scale
    (RUNS / "scale.json").write_text(json.dumps(scale))
    tokenizer = make_tokenizer(RUNS / "tokenizer")
    unet, text = new_unet(), new_text_encoder(tokenizer)
    both = torch.nn.ModuleDict({"unet": unet, "text": text})
    restore(both, "unet")
    mean = copy.deepcopy(both)
    noise_of = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    rng = random.Random(int(time.time()))

    def loss() -> Tensor:
        chosen = [rng.randrange(len(samples)) for _ in range(batch)]
        x = latents[chosen]
        words = ["" if rng.random() < 0.1 else caption(samples[i], rng) for i in chosen]
        t = torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(x)
        context = text(tokens_of(tokenizer, words)).last_hidden_state
        return F.mse_loss(unet(noise_of.add_noise(x, noise, t), t, context).sample, noise)

    steps, saved = [0], [time.monotonic()]

    @torch.no_grad()
    def after() -> None:
        steps[0] += 1
        decay = min(0.999, (1 + steps[0]) / (20 + steps[0]))
        for average, now in zip(mean.parameters(), both.parameters(), strict=True):
            average.lerp_(now, 1 - decay)
        if time.monotonic() - saved[0] > 30:
            save(mean, "unet")
            saved[0] = time.monotonic()

    train("unet", minutes, list(both.parameters()), 1.2e-3, loss, after)
    save(mean, "unet")


def export() -> None:
    """Write the diffusers folder in fp16, whole or not at all."""
    vae, tokenizer = new_vae(), CLIPTokenizer.from_pretrained(RUNS / "tokenizer")
    both = torch.nn.ModuleDict({"unet": new_unet(), "text": new_text_encoder(tokenizer)})
    if not restore(vae, "decoder"):
        restore(vae, "vae")
    restore(both, "unet")
    vae.register_to_config(scaling_factor=json.loads((RUNS / "scale.json").read_text()))
    folder = Path(tempfile.mkdtemp(dir=TARGET.parent))
    vae.half().save_pretrained(folder / "vae")
    both["unet"].half().save_pretrained(folder / "unet")
    both["text"].half().save_pretrained(folder / "text_encoder")
    shutil.copytree(RUNS / "tokenizer", folder / "tokenizer")
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "safety_checker": [None, None],
        "requires_safety_checker": False, "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    card = TARGET / "README.md"
    if card.exists():
        shutil.copy(card, folder / "README.md")
    folder.chmod(0o755)
    shutil.rmtree(TARGET, ignore_errors=True)
    folder.rename(TARGET)
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["all", "vae", "decoder", "unet", "export"], default="all")
    parser.add_argument("--minutes", type=float, default=60, help="wall clock of each part")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = {"vae": train_vae, "decoder": train_decoder, "unet": train_unet}
    for name, part in parts.items():
        if options.part in (name, "all"):
            part(options.minutes)
    if options.part in ("export", "all"):
        export()


if __name__ == "__main__":
    main()
