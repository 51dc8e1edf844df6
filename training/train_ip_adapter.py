"""Train the IP-Adapter of the built-in model, and the image encoder that it sees by: an image takes the place of words.

    python -m training.train_ip_adapter --minutes 15

An IP-Adapter (arXiv 2308.06721) gives each cross attention of the U-Net keys and values of its own, made of what an
image encoder sees. Both are new here, and small. First the encoder, a vision transformer of CLIP's own shape, learns
to name the thing and the background of an image, and the adapter's tokens learn the states that the text encoder has of
these words. Then both learn on with the noise prediction, while the U-Net stays as it ships: half of the prompts are
empty, so that the image alone states what is drawn; a third name another background than that of the image. The files
have the names of the published ones.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection
from graphflow_nodes.families import clip_vision
from graphflow_nodes.families.clip_vision.network import seen
from graphflow_nodes.model.config import Config
from graphflow_nodes.patches.unet_attentions import cross_attentions
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from . import scenes
from .data import BACKGROUNDS, HELD_OUT, THINGS, Sample, captions, draw, load_sprites, pairs
from .modules import RUNS, SHIPPED, WIDTH, new_text_encoder, new_unet, new_vae, noise_schedule, restore, scale_of
from .train_tiny import cached_latents, to_tensor, tokens_of, weight_of

__all__ = ["Adapter", "encoder_file", "new_encoder", "references", "train"]

FOLDER = Path(__file__).parent.parent / "nodes" / "builtin_adapters"
NAME = "graphflow-tiny-image.safetensors"
TOKENS = 4
CONFIG = Config(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=clip_vision.HEADS,
    image_size=32,
    patch_size=8,
    hidden_act="quick_gelu",
    projection_dim=64,
    mean=clip_vision.OPENAI[0],
    deviation=clip_vision.OPENAI[1],
)
"""Of the encoder; the loader finds the same in the shapes of the file."""
FIRST = 0.2
"""The share of the time that the encoder learns names in."""
EACH = 12
"""Images of each pair."""


def new_encoder() -> CLIPVisionModelWithProjection:
    stated = {name: value for name, value in CONFIG.items() if name not in ("mean", "deviation")}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**stated))


class Adapter(nn.Module):
    """What an image encoder sees [N, D] as tokens, and their keys and values in each cross attention of a U-Net."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Puts itself into the U-Net. Keys and values begin as those of the text."""
        super().__init__()
        self.names = [name for name, _ in cross_attentions(Config(unet.config))]
        self.projection = ImageProjection(CONFIG.projection_dim, WIDTH, TOKENS)
        self.layers = nn.ModuleList()
        processors = {name: AttnProcessor2_0() for name in unet.attn_processors}
        for name in self.names:
            attention = unet.get_submodule(name)
            layer = IPAdapterAttnProcessor2_0(attention.to_q.out_features, WIDTH, (TOKENS,))
            layer.to_k_ip[0].weight.data.copy_(attention.to_k.weight)
            layer.to_v_ip[0].weight.data.copy_(attention.to_v.weight)
            self.layers.append(layer)
            processors[f"{name}.processor"] = layer
        unet.set_attn_processor(processors)

    def forward(self, states: Tensor) -> Tensor:
        """Tokens [N, TOKENS, C]."""
        tokens: Tensor = self.projection(states)
        return tokens

    def file(self) -> dict[str, Tensor]:
        """The tensors of the file, float16, by the published names."""
        tensors = {
            "image_proj.proj.weight": self.projection.image_embeds.weight,
            "image_proj.proj.bias": self.projection.image_embeds.bias,
            "image_proj.norm.weight": self.projection.norm.weight,
            "image_proj.norm.bias": self.projection.norm.bias,
        }
        for number, layer in enumerate(self.layers):
            tensors[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = layer.to_k_ip[0].weight
            tensors[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = layer.to_v_ip[0].weight
        return {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}


def encoder_file(encoder: CLIPVisionModelWithProjection) -> dict[str, Tensor]:
    """The tensors of the file, float16, by CLIP's names in transformers."""
    state = encoder.state_dict().items()
    return {name: tensor.half().contiguous() for name, tensor in state if not name.endswith("position_ids")}


@dataclass(frozen=True, slots=True)
class References:
    """Images to be seen: float32 [N, 64, 64, 3] in 0..1, and what each shows."""

    images: Tensor
    samples: list[Sample]

    def some(self, count: int, rng: random.Random) -> tuple[Tensor, list[Sample]]:
        chosen = [rng.randrange(len(self.samples)) for _ in range(count)]
        return self.images[chosen], [self.samples[i] for i in chosen]


@torch.no_grad()
def references(vae: AutoencoderKL, each: int, seed: int = 7) -> References:
    """Images of the pairs in training, in more sizes and places than the model was trained with, mirrored or not; by
    each of the two drawings of a thing that we have; and half of them through the autoencoder."""
    sprites, rng, sheet = load_sprites(), random.Random(seed), scenes.load_things()
    other = {name: sheet[name].resize((64, 64), Image.Resampling.LANCZOS) for name in THINGS}
    samples = [sample for sample in pairs() if sample not in HELD_OUT for _ in range(each)]
    found = []
    for at in range(0, len(samples), 32):
        drawn = [
            draw(rng.choice((sprites, other)), one, rng, shift=rng.choice((3, 7))) for one in samples[at : at + 32]
        ]
        x = to_tensor([np.flip(image, 1) if rng.random() < 0.5 else image for image in drawn])
        passed = vae.decode(vae.encode(x).latent_dist.mean).sample
        found.append(torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, passed))
    images = (torch.cat(found).clamp(-1, 1).movedim(1, -1) + 1) / 2
    return References(images.contiguous(), samples)


def learn_names(
    encoder: nn.Module,
    adapter: Adapter,
    states: Mapping[Sample, Tensor],
    held: References,
    minutes: float,
    batch: int = 64,
    peak: float = 1.5e-3,
) -> None:
    """The thing and the background of an image from its vector, and the `states` of its words from its tokens."""
    heads = nn.ModuleList(nn.Linear(CONFIG.projection_dim, len(names)) for names in (THINGS, BACKGROUNDS))
    things, grounds = list(THINGS), list(BACKGROUNDS)
    parameters, rng = [*encoder.parameters(), *adapter.projection.parameters(), *heads.parameters()], random.Random(1)
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-2)
    for step, done in steps(minutes):
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 50) * (1 - 0.9 * done)
        images, samples = held.some(batch, rng)
        vectors = encoder(pixel_values=seen(images, CONFIG, crop=True)).image_embeds
        thing, ground = (head(vectors) for head in heads)
        is_thing = torch.tensor([things.index(one.thing) for one in samples])
        is_ground = torch.tensor([grounds.index(one.background) for one in samples])
        words = mse_loss(adapter(vectors), torch.stack([states[one] for one in samples]))
        loss = cross_entropy(thing, is_thing) + cross_entropy(ground, is_ground) + words
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % 50 == 0:
            right = ((thing.argmax(1) == is_thing).float().mean(), (ground.argmax(1) == is_ground).float().mean())
            print(f"names: step {step}, right {right[0]:.0%} and {right[1]:.0%}, words {words.item():.3f}", flush=True)


@torch.no_grad()
def words_of(text: nn.Module, tokenizer: CLIPTokenizer) -> dict[Sample, Tensor]:
    """The states [TOKENS, C] of what a caption says: the thing, its last word, the background, and the whole."""
    found = {}
    for sample in pairs():
        ids = tokens_of(tokenizer, [f"{sample.thing} on {sample.background}"])
        states, end = text(ids).last_hidden_state[0], int((ids[0] == tokenizer.eos_token_id).int().argmax())
        thing = states[1 : end - 2]
        found[sample] = torch.stack([thing.mean(0), thing[-1], states[end - 1], states[end]])
    return found


def steps(minutes: float) -> Iterator[tuple[int, float]]:
    """(step, the share of the time that has passed), as long as there is time."""
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        yield step, done
        step += 1


def asked(target: Sample, rng: random.Random) -> tuple[str, str | None]:
    """A prompt for an image, and the background that the reference has to show; None: any, as the prompt names it."""
    chance = rng.random()
    if chance < 0.55:
        return "", target.background
    return (f"{target.background} background" if chance < 0.9 else rng.choice(captions(target))), None


def train(minutes: float, folder: Path, each: int = EACH, batch: int = 24, peak: float = 1e-3) -> None:
    torch.manual_seed(0)
    vae, unet = new_vae(), new_unet()
    tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
    text = new_text_encoder(tokenizer)
    for name, module in (("vae", vae), ("unet", unet), ("text", text)):
        restore(module, RUNS / "ip_adapter", name, SHIPPED)
        module.requires_grad_(False)
    held = references(vae.eval(), each)
    latents, samples = cached_latents(vae, each)
    latents = latents * scale_of(RUNS / "ip_adapter", SHIPPED)
    encoder, adapter = new_encoder(), Adapter(unet)
    learn_names(encoder, adapter, words_of(text, tokenizer), held, FIRST * minutes)
    states: dict[str, Tensor] = {}
    """Of each prompt."""
    by_pair: dict[Sample, list[int]] = {}
    by_thing: dict[str, list[int]] = {}
    for index, sample in enumerate(held.samples):
        by_pair.setdefault(sample, []).append(index)
        by_thing.setdefault(sample.thing, []).append(index)
    parameters = [*encoder.parameters(), *adapter.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-4, betas=(0.9, 0.99))
    schedule = noise_schedule()
    weights, rng, mean = weight_of(schedule.alphas_cumprod), random.Random(3), 0.0
    for step, done in steps((1 - FIRST) * minutes):
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 50) * (1 - 0.97 * done)
        chosen = [rng.randrange(len(samples)) for _ in range(batch)]
        texts, shown = [], []
        for i in chosen:
            prompt, ground = asked(samples[i], rng)
            pair = samples[i] if ground is not None else None
            texts.append(prompt)
            shown.append(rng.choice(by_thing[samples[i].thing] if pair is None else by_pair[pair]))
        x, t = latents[chosen], torch.randint(0, 1000, (batch,))
        noise = torch.randn_like(x)
        vectors = encoder(pixel_values=seen(held.images[shown], CONFIG, crop=True)).image_embeds
        blank = torch.tensor([rng.random() < 0.1 for _ in chosen])  # for classifier-free guidance
        vectors = vectors.masked_fill(blank[:, None], 0.0)
        texts = ["" if no else one for one, no in zip(texts, blank.tolist(), strict=True)]
        for one in set(texts) - states.keys():
            states[one] = text(tokens_of(tokenizer, [one])).last_hidden_state[0]
        context = torch.stack([states[one] for one in texts])
        answer = unet(schedule.add_noise(x, noise, t), t, (context, [adapter(vectors)])).sample
        loss = (weights[t] * (answer - noise).pow(2).mean((1, 2, 3))).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"adapter: step {step}, {100 * done:.0f} %, loss {mean:.4f}", flush=True)
    for kind, tensors in (("clip_vision", encoder_file(encoder)), ("ipadapter", adapter.file())):
        target = folder / kind / NAME
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, target, {"format": "pt"})
        print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where clip_vision/ and ipadapter/ are written")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.minutes, options.folder)


if __name__ == "__main__":
    main()
