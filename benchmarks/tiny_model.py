"""How often the built-in model draws what it is asked: `python -m benchmarks.tiny_model [--model FOLDER]`

A model of 128 x 128 pixels is measured as `benchmarks.tiny_scenes` describes it; with `--proof`, its judge is.
Of the model of 64 x 64 pixels, asked for are (thing, background) pairs that were held out of training, each in every
wording and with two seeds. A picture is right when the nearest sprite is the thing and the nearest background colour is
the background. The background is the median of the picture's rim; the sprite is the one that, laid on that background
in some size and place, differs least from the picture (mean squared error over all pixels).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.samplers import guidance
from graphflow_nodes.samplers.denoiser import denoiser
from graphflow_nodes.samplers.table import SAMPLERS, prepare_noise, sample, schedule
from PIL import Image

import graphflow as gf
from benchmarks import scene_judge, tiny_scenes
from training.data import BACKGROUNDS, HELD_OUT, SIZE, THINGS, Sample, captions, load_sprites, pairs

BUILTIN = Path(__file__).parents[1] / "nodes" / "builtin" / "graphflow-tiny"
STEPS, CFG, BATCH = 20, 4.0, 40
GATE = 0.75
SIDES, SHIFTS = (44, 46, 48, 50), range(-3, 4)
RIM = 4


@dataclass(frozen=True, slots=True)
class Asked:
    sample: Sample
    text: str
    seed: int


class Prompted(Protocol):
    """A prompt and the seed of its image."""

    @property
    def text(self) -> str: ...

    @property
    def seed(self) -> int: ...


def side_of(folder: Path) -> int:
    """Pixels of a side of the images that a model was trained on."""
    return 8 * int(json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))["sample_size"])


def prompts() -> list[Asked]:
    """Every held-out pair in every wording with two seeds, all seeds different."""
    held_out = [sample for sample in pairs() if sample in HELD_OUT]
    wordings = [(sample, text) for sample in held_out for text in captions(sample) for _ in range(2)]
    return [Asked(sample, text, seed) for seed, (sample, text) in enumerate(wordings)]


def pictures(folder: Path, asked: Sequence[Prompted], steps: int = STEPS, cfg: float = CFG) -> np.ndarray:
    """What the model draws: uint8 [N, side, side, 3]. The pictures of a batch have noise and prompts of their own."""
    cells = side_of(folder) // 8
    settings = gf.Settings()
    opened, device = open_model(folder, settings), open_device(settings)
    model, clip, vae = opened.model, opened.clip, opened.vae
    assert model is not None and clip is not None and vae is not None
    sigmas = schedule("normal", steps, model.prediction)
    texts = {text: encode_prompt(device, clip, text, {})[0] for text in {"", *(item.text for item in asked)}}
    drawn = []
    for at in range(0, len(asked), BATCH):
        batch = asked[at : at + BATCH]
        guider = guidance.CFG(model, (tuple(texts[item.text] for item in batch),), ((texts[""],),), cfg)
        noise = torch.cat([prepare_noise((1, 4, cells, cells), item.seed) for item in batch])
        start = model.prediction.noised(torch.zeros_like(noise), noise, sigmas[0], max_denoise=True)
        with denoiser(device, guider, start, sigmas) as denoise:
            latents = model.latent.out(sample(SAMPLERS["euler"], denoise, start, sigmas, seed=0))
        drawn.append(decode(device, vae, latents))
    return (torch.cat(drawn) * 255).to(torch.uint8).numpy()


def placed_sprites() -> dict[str, np.ndarray]:
    """Each thing in every size and place: float32 [N,64,64,4] in 0..1."""
    found = {}
    for thing, sprite in load_sprites().items():
        placed = []
        for side in SIDES:
            small = sprite.resize((side, side), Image.Resampling.LANCZOS)
            for x, y in product(SHIFTS, SHIFTS):
                canvas = Image.new("RGBA", (SIZE, SIZE))
                canvas.paste(small, ((SIZE - side) // 2 + x, (SIZE - side) // 2 + y))
                placed.append(np.asarray(canvas))
        found[thing] = np.stack(placed).astype(np.float32) / 255
    return found


def seen(drawn: np.ndarray) -> list[Sample]:
    """What each picture [N,64,64,3] shows: the nearest sprite on the nearest background."""
    placed = placed_sprites()
    things, names, colours = list(placed), list(BACKGROUNDS), np.array(list(BACKGROUNDS.values()), np.float32)
    rim = np.ones((SIZE, SIZE), bool)
    rim[RIM:-RIM, RIM:-RIM] = False
    ground = np.median(drawn[:, rim], axis=1)
    nearest = ((ground[:, None] - colours[None]) ** 2).sum(-1).argmin(1)
    found = [Sample("nothing", "nothing")] * len(drawn)
    for index, name in enumerate(names):
        rows = np.flatnonzero(nearest == index)
        if not len(rows):
            continue
        pictures = drawn[rows].reshape(len(rows), -1).astype(np.float32) / 255
        distance = np.stack([_distance(pictures, placed[thing], colours[index] / 255) for thing in things], 1)
        for row, best in zip(rows, distance.argmin(1), strict=True):
            found[row] = Sample(things[best], name)
    return found


def _distance(pictures: np.ndarray, placed: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Squared distance of each picture to the nearest place of a sprite on a colour, less what is the same for all."""
    alpha = placed[..., 3:]
    templates = (placed[..., :3] * alpha + colour * (1 - alpha)).reshape(len(placed), -1)
    return ((templates**2).sum(1)[None] - 2 * pictures @ templates.T).min(1)


def grid(drawn: np.ndarray, asked: list[Asked], found: list[Sample], columns: int = 16) -> Image.Image:
    """All pictures, those that are wrong in a red frame."""
    cell = SIZE + 4
    sheet = Image.new("RGB", (columns * cell, -(-len(drawn) // columns) * cell), (255, 255, 255))
    for i, (picture, item, shows) in enumerate(zip(drawn, asked, found, strict=True)):
        tile = Image.new("RGB", (cell, cell), (255, 255, 255) if shows == item.sample else (230, 0, 0))
        tile.paste(Image.fromarray(picture), (2, 2))
        sheet.paste(tile, (i % columns * cell, i // columns * cell))
    return sheet


def report_scenes(folder: Path, options: argparse.Namespace) -> None:
    """Of a model of 128 pixels."""
    began = time.monotonic()
    asked = tiny_scenes.prompts(options.prompts)
    drawn = pictures(folder, asked, options.steps, options.cfg)
    took = time.monotonic() - began
    shown = scene_judge.seen(drawn)
    tiny_scenes.sheet(drawn, asked, shown).save(options.grid)
    print(f"{len(asked)} held-out prompts, {options.steps} steps of euler, cfg {options.cfg:g}: ", end="")
    print(f"{took:.0f} s, judged in {time.monotonic() - began - took:.0f} s; images in {options.grid}")
    print("\n".join(tiny_scenes.table(asked, shown)))


def report_pairs(folder: Path, options: argparse.Namespace) -> None:
    """Of the model of 64 pixels."""
    began = time.monotonic()
    asked = prompts()
    drawn = pictures(folder, asked, options.steps, options.cfg)
    found = seen(drawn)
    grid(drawn, asked, found).save(options.grid)
    things = [shows.thing == item.sample.thing for item, shows in zip(asked, found, strict=True)]
    grounds = [shows.background == item.sample.background for item, shows in zip(asked, found, strict=True)]
    both = [a and b for a, b in zip(things, grounds, strict=True)]
    print(f"{len(asked)} prompts for {len(HELD_OUT)} held-out pairs, {options.steps} steps of euler, ", end="")
    print(f"cfg {options.cfg:g}: {time.monotonic() - began:.0f} s; pictures in {options.grid}")
    for name, right in (("the thing", things), ("the background", grounds), ("both", both)):
        print(f"{name:<16}{np.mean(right):7.1%}")
    each = {thing: [ok for ok, item in zip(both, asked, strict=True) if item.sample.thing == thing] for thing in THINGS}
    print("\nby thing: " + ", ".join(f"{thing} {np.mean(right):.0%}" for thing, right in each.items()))
    pairs_wrong = Counter(
        f"{item.sample.thing} on {item.sample.background} shows {shows.thing} on {shows.background}"
        for item, shows in zip(asked, found, strict=True)
        if item.sample != shows
    )
    for text, count in pairs_wrong.most_common(12):
        print(f"{count:4} x {text}")
    print(f"\ngate {GATE:.0%}: {'reached' if np.mean(both) >= GATE else 'NOT reached'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUILTIN, help="a diffusers folder")
    parser.add_argument("--grid", type=Path, default=Path("output/tiny_model.png"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cfg", type=float, default=CFG)
    parser.add_argument("--prompts", type=int, default=480, help="of a model of 128 pixels: half with two things")
    parser.add_argument(
        "--proof", action="store_true", help="measure the judge of 128 pixels on known drawings instead"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.grid.parent.mkdir(parents=True, exist_ok=True)
    if options.proof:
        print("\n".join(tiny_scenes.proof(options.model, options.prompts)))
    elif side_of(options.model) == tiny_scenes.SIZE:
        report_scenes(options.model, options)
    else:
        report_pairs(options.model, options)


if __name__ == "__main__":
    main()
