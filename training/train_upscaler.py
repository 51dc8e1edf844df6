"""Train the upscaler of the package: images of twice the size, with edges that are sharp again.

    python -m training.train_upscaler --minutes 10

The network is the small one of Real-ESRGAN (arXiv 2107.10833, "compact"): 3 x 3 convolutions with PReLU at the size of
the input, a pixel shuffle at the end, and the enlarged input added, so that it learns the difference only. Its file has
the names that this architecture has everywhere.

It learns from `scenes.py`: images of 128 pixels and the same at 64. Where the built-in model knows the things of a
scene, a part of the small images has passed its autoencoder: these have the soft edges of what the model draws.
Every sixth thing is never shown, so that `decibels` measures what it makes of new ones.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from . import scenes
from .data import THINGS as OF_THE_MODEL
from .modules import RUNS, SHIPPED, new_vae, restore
from .train_tiny import difference, to_tensor
from .train_tiny import train as trained

__all__ = ["HELD_OUT", "Compact", "Pairs", "decibels", "file_of", "made_pairs", "train"]

TARGET = (
    Path(__file__).parent.parent / "nodes" / "builtin_adapters" / "upscale_models" / "graphflow-tiny-2x.safetensors"
)
FACTOR, FEATURES, DEPTH = 2, 24, 6
HELD_OUT = tuple(scenes.THINGS)[::6]
"""Things that no image of the training shows."""
CROP = 32
"""Pixels of the small image that one step sees of each pair."""


class Compact(nn.Module):
    """[N, 3, h, w] in 0..1 -> [N, 3, 2h, 2w]."""

    def __init__(self, features: int = FEATURES, depth: int = DEPTH) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(depth):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, 3 * FACTOR**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.body(x), FACTOR) + F.interpolate(x, scale_factor=FACTOR, mode="nearest")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images of both sizes, uint8."""

    small: Tensor
    """[N, 3, 64, 64]"""
    large: Tensor
    """[N, 3, 128, 128]"""


def file_of(network: Compact) -> dict[str, Tensor]:
    """The tensors of the file, float16."""
    return {name: tensor.detach().half().contiguous() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def made_pairs(count: int, seed: int, vae: AutoencoderKL | None, of_held_out: bool = False) -> Pairs:
    """Scenes of one or two things on any colour. With a `vae`, a third of the images show a thing that the model draws,
    and their small forms have passed it."""
    things, rng = scenes.load_things(), random.Random(seed)
    names = list(HELD_OUT) if of_held_out else [name for name in scenes.THINGS if name not in HELD_OUT]
    drawn = [name for name in names if name in OF_THE_MODEL]
    large: list[np.ndarray] = []
    passes: list[bool] = []
    for _ in range(count):
        passes.append(vae is not None and rng.random() < 1 / 3)
        number = 1 if passes[-1] or rng.random() < 0.6 else 2
        shown = tuple(rng.sample(drawn if passes[-1] else names, number))
        scene = scenes.Scene(shown, rng.choice(list(scenes.BACKGROUNDS)))
        colour = None if passes[-1] else tuple(rng.randrange(256) for _ in range(3))
        image = scenes.draw(things, scene, rng, colour)
        large.append(np.flip(image, 1) if rng.random() < 0.5 else image)
    filters = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    sides = (scenes.SIZE // FACTOR,) * 2
    small = to_tensor([np.asarray(Image.fromarray(image).resize(sides, rng.choice(filters))) for image in large])
    chosen = torch.tensor(passes)
    if vae is not None and chosen.any():
        small[chosen] = torch.cat([vae.decode(vae.encode(x).latent_dist.mean).sample for x in small[chosen].split(32)])
    return Pairs(_bytes(small), _bytes(to_tensor(large)))


def _bytes(x: Tensor) -> Tensor:
    """-1..1 -> 0..255"""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def decibels(network: Compact, pairs: Pairs) -> tuple[float, float]:
    """The mean PSNR of the network, and that of bicubic interpolation."""
    wanted, x = pairs.large / 255, pairs.small / 255
    cubic = F.interpolate(x, scale_factor=FACTOR, mode="bicubic", align_corners=False)
    return _psnr(network(x), wanted), _psnr(cubic, wanted)


def _psnr(found: Tensor, wanted: Tensor) -> float:
    error = (found.clamp(0, 1) - wanted).pow(2).mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def train(minutes: float, target: Path, count: int = 1200, batch: int = 16, peak: float = 2e-3) -> None:
    torch.manual_seed(0)
    vae = new_vae()
    restore(vae, RUNS / "upscaler", "vae", SHIPPED)
    pairs = made_pairs(count, 1, vae.eval())
    network, rng = Compact(), random.Random(2)

    def loss() -> Tensor:
        small, large = [], []
        for i in (rng.randrange(count) for _ in range(batch)):
            x, y = (rng.randrange(scenes.SIZE // FACTOR - CROP + 1) for _ in range(2))
            small.append(pairs.small[i, :, y : y + CROP, x : x + CROP])
            x, y, side = FACTOR * x, FACTOR * y, FACTOR * CROP
            large.append(pairs.large[i, :, y : y + side, x : x + side])
        return difference(network(torch.stack(small) / 255), torch.stack(large) / 255)

    target.parent.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        save_file(file_of(network), target.with_suffix(".new"), {"format": "pt"})
        target.with_suffix(".new").rename(target)

    trained("upscaler", minutes, list(network.parameters()), peak, loss, keep)


def measure(target: Path) -> None:
    """Print the PSNR on things that were never shown and on others."""
    network, vae = Compact(), new_vae()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(target).items()})
    restore(vae, RUNS / "upscaler", "vae", SHIPPED)
    for what, held in (("new things", made_pairs(60, 9, None, of_held_out=True)), ("all", made_pairs(60, 8, vae))):
        own, cubic = decibels(network, held)
        print(f"{what}: {own:.2f} dB, bicubic {cubic:.2f} dB")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, default=TARGET, help="the file to write (default: that of the package)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.minutes, options.target)
    measure(options.target)


if __name__ == "__main__":
    main()
