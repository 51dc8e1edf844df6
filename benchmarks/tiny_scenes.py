"""How often a model of scenes (128 x 128 pixels) draws what it is asked, and whether the judge can be trusted.

Asked for are scenes that were held out of training, half of them with one thing and half with two, in all wordings in
turn, each with a seed of its own. An image is right when `scene_judge`, which does not know the prompt, finds in it the
things, each on its side, and the background. Where a prompt leaves the sides open ("a cat and an owl"), either order is
right.

The proof of the judge: true drawings of what is asked, as they are and after they have passed the autoencoder with
noise on the latents, or a blur, must be right; drawings of other scenes must be wrong.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode
from graphflow_nodes.families.opened import open_model
from PIL import Image, ImageFilter

import graphflow as gf
from benchmarks.scene_judge import seen
from training.scenes import BACKGROUNDS, SIZE, THINGS, Scene, captions, draw, is_held_out, load_things, singles

__all__ = ["Asked", "is_right", "of_prompts", "other_scenes", "proof", "prompts", "sheet", "table"]

GATES = {1: 0.95, 2: 0.80}
"""Number of things -> share of right images that is aimed at."""
LATENT_NOISE = 0.15
"""Of the unit of the latents, in the proof."""
BLUR, NOISE = 1.0, 12.0
"""Radius in pixels, and deviation of 255, in the proof."""
SHOWN = 12
"""Wrong images that are listed."""


@dataclass(frozen=True, slots=True)
class Asked:
    scene: Scene
    text: str
    seed: int


def prompts(count: int = 480) -> list[Asked]:
    """Held-out scenes: first those of one thing, spread over things and backgrounds, then as many of two."""
    rng = random.Random(16)
    held = [scene for scene in singles() if is_held_out(scene)]
    rng.shuffle(held)
    alone = [held[at % len(held)] for at in range(count // 2)]
    pairs: dict[Scene, None] = {}
    while len(pairs) < count - len(alone):
        scene = Scene(tuple(rng.sample(list(THINGS), 2)), rng.choice(list(BACKGROUNDS)))
        if is_held_out(scene):
            pairs[scene] = None
    texts = [(scene, captions(scene)[at % len(captions(scene))]) for at, scene in enumerate([*alone, *pairs])]
    return [Asked(scene, text, seed) for seed, (scene, text) in enumerate(texts)]


def is_right(asked: Asked, shown: Scene) -> bool:
    """Whether an image shows the things, each on its side, and the background."""
    return shown.background == asked.scene.background and _has_things(asked, shown)


def _has_things(asked: Asked, shown: Scene) -> bool:
    orders = {asked.scene.things} | ({asked.scene.things[::-1]} if " and " in asked.text else set())
    return shown.things in orders


def table(asked: Sequence[Asked], shown: Sequence[Scene]) -> list[str]:
    """Shares of right images, by the number of things, and the most frequent mistakes."""
    rows = list(zip(asked, shown, strict=True))
    lines = [f"{'':14}{'prompts':>8}{'things':>9}{'ground':>9}{'all':>9}   aimed at"]
    for count, gate in GATES.items():
        mine = [(item, scene) for item, scene in rows if len(item.scene.things) == count]
        if mine:
            grounds = _share(item.scene.background == scene.background for item, scene in mine)
            things = _share(_has_things(item, scene) for item, scene in mine)
            right = float(np.mean([is_right(item, scene) for item, scene in mine]))
            reached = "reached" if right >= gate else "NOT reached"
            name = "one thing" if count == 1 else "two things"
            lines.append(f"{name:14}{len(mine):8}{things:>9}{grounds:>9}{right:9.1%}   {gate:.0%}: {reached}")
    lines += _of_two([(item, scene) for item, scene in rows if len(item.scene.things) == 2])
    wrong = Counter(f"{_name(item.scene)} -> {_name(scene)}" for item, scene in rows if not is_right(item, scene))
    return [*lines, *(f"{count:4} x {text}" for text, count in wrong.most_common(SHOWN))]


def _of_two(rows: Sequence[tuple[Asked, Scene]]) -> Iterator[str]:
    """What images of two things have right, side by side."""
    rows = [(item, scene) for item, scene in rows if " and " not in item.text]
    if not rows:
        return
    for side, name in enumerate(("left", "right")):
        share = _share(scene.things[side : side + 1] == item.scene.things[side : side + 1] for item, scene in rows)
        yield f"{'  ' + name:14}{len(rows):8}{share:>9}"
    swapped = _share(scene.things == item.scene.things[::-1] for item, scene in rows)
    yield f"{'  swapped':14}{len(rows):8}{swapped:>9}"


def _share(found: Iterable[bool]) -> str:
    return f"{np.mean(list(found)):.1%}"


def _name(scene: Scene) -> str:
    return f"{' | '.join(scene.things) or 'nothing'} on {scene.background}"


def sheet(images: np.ndarray, asked: Sequence[Asked], shown: Sequence[Scene], columns: int = 16) -> Image.Image:
    """All images, those that are wrong in a red frame."""
    cell = SIZE + 4
    found = Image.new("RGB", (columns * cell, -(-len(images) // columns) * cell), (255, 255, 255))
    for i, (image, item, scene) in enumerate(zip(images, asked, shown, strict=True)):
        tile = Image.new("RGB", (cell, cell), (255, 255, 255) if is_right(item, scene) else (230, 0, 0))
        tile.paste(Image.fromarray(image), (2, 2))
        found.paste(tile, (i % columns * cell, i // columns * cell))
    return found


def proof(folder: Path, count: int) -> list[str]:
    """How the judge answers on drawings of which the truth is known: shares that it calls right. `folder`: of the model
    whose autoencoder the drawings pass."""
    asked, rng, sprites = prompts(count), random.Random(1), load_things()
    true = np.stack([draw(sprites, item.scene, rng) for item in asked])
    blurred = np.stack([np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(BLUR))) for one in true])
    noise = np.random.default_rng(5).normal(0, NOISE, true.shape)
    cases = {
        "true drawings": true,
        f"with a blur of {BLUR:g} and noise of {NOISE:g}": (blurred + noise).clip(0, 255).astype(np.uint8),
        "through the autoencoder": passed(folder, true, 0.0),
        f"with latent noise of {LATENT_NOISE:g}": passed(folder, true, LATENT_NOISE),
    }
    lines = [f"{'true':40}{'right':>8}{'PSNR':>12}"]
    for name, images in cases.items():
        lines.append(f"{name:40}{of_prompts(asked, seen(images)):8.1%}{_decibels(images, true):9.1f} dB")
    lines.append(f"{'wrong':40}{'right':>8}")
    for name, scenes in other_scenes(asked, random.Random(2)).items():
        chosen = [(item, scene) for item, scene in zip(asked, scenes, strict=True) if scene is not None]
        images = np.stack([draw(sprites, scene, rng) for _, scene in chosen])
        lines.append(f"{name:40}{of_prompts([item for item, _ in chosen], seen(images)):8.1%}")
    anything = np.random.default_rng(3).integers(0, 256, true.shape, np.uint8)
    plain = np.stack([np.full((SIZE, SIZE, 3), BACKGROUNDS[item.scene.background], np.uint8) for item in asked])
    halves = ((true.astype(np.uint16) + np.roll(true, 1, 0)) // 2).astype(np.uint8)
    for name, images in {"noise": anything, "the background alone": plain, "two images in one": halves}.items():
        lines.append(f"{name:40}{of_prompts(asked, seen(images)):8.1%}")
    return lines


def _decibels(images: np.ndarray, true: np.ndarray) -> float:
    error = ((images.astype(np.float32) - true) / 255) ** 2
    return float(np.median(-10 * np.log10(error.mean((1, 2, 3)) + 1e-10)))


def of_prompts(asked: Sequence[Asked], shown: Sequence[Scene]) -> float:
    """The share of right images."""
    return float(np.mean([is_right(item, scene) for item, scene in zip(asked, shown, strict=True)]))


def other_scenes(asked: Sequence[Asked], rng: random.Random) -> dict[str, list[Scene | None]]:
    """Scenes that are wrong for each prompt, by what is wrong; None where that cannot be."""

    def another(names: Sequence[str], taken: Sequence[str]) -> str:
        return rng.choice([name for name in names if name not in taken])

    things, grounds = list(THINGS), list(BACKGROUNDS)
    found: dict[str, list[Scene | None]] = {
        name: [] for name in ("another thing", "another background", "a thing too many", "one missing", "swapped")
    }
    for item in asked:
        scene, first = item.scene, item.scene.things[0]
        other = another(things, scene.things)
        found["another thing"].append(replace(scene, things=(other, *scene.things[1:])))
        found["another background"].append(replace(scene, background=another(grounds, [scene.background])))
        is_pair, is_open = len(scene.things) == 2, " and " in item.text
        found["a thing too many"].append(None if is_pair else replace(scene, things=(first, other)))
        found["one missing"].append(replace(scene, things=(first,)) if is_pair else None)
        found["swapped"].append(replace(scene, things=scene.things[::-1]) if is_pair and not is_open else None)
    return found


def passed(folder: Path, images: np.ndarray, noise: float) -> np.ndarray:
    """Images after they have passed the autoencoder of a model, with noise on the latents."""
    settings = gf.Settings()
    opened, device = open_model(folder, settings), open_device(settings)
    assert opened.vae is not None and opened.model is not None
    vae, drawn, found = opened.vae, torch.Generator().manual_seed(4), []
    for part in torch.from_numpy(images).split(16):
        latents = encode(device, vae, part.float() / 255)
        unit = opened.model.latent.into(latents)
        unit = unit + noise * torch.randn(unit.shape, generator=drawn)
        found.append(decode(device, vae, opened.model.latent.out(unit)))
    return (torch.cat(found) * 255).round().to(torch.uint8).numpy()
