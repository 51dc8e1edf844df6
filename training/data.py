"""Pictures with captions: sprites of Noto Emoji (Google, Apache-2.0) on plain backgrounds, 64 x 64 pixels.

`sprites.png` is a strip of the chosen sprites in the order of THINGS, so that nothing has to be fetched.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = [
    "BACKGROUNDS",
    "HELD_OUT",
    "SIZE",
    "THINGS",
    "Sample",
    "caption",
    "captions",
    "draw",
    "evening_sky",
    "load_sprites",
    "pairs",
]

SIZE = 64
SPRITES = Path(__file__).with_name("sprites.png")

THINGS = {
    "red apple": "1f34e",
    "green apple": "1f34f",
    "banana": "1f34c",
    "orange": "1f34a",
    "grapes": "1f347",
    "pizza": "1f355",
    "cat": "1f431",
    "frog": "1f438",
    "panda": "1f43c",
    "owl": "1f989",
    "sun": "1f31e",
    "moon": "1f319",
    "cactus": "1f335",
    "red heart": "2764-fe0f",
    "blue heart": "1f499",
    "rocket": "1f680",
    "guitar": "1f3b8",
    "ghost": "1f47b",
    "crown": "1f451",
    "octopus": "1f419",
}
"""Name -> code points of the emoji."""

BACKGROUNDS = {
    "white": (245, 245, 245),
    "black": (20, 20, 24),
    "blue": (60, 110, 220),
    "green": (70, 170, 90),
    "yellow": (245, 210, 70),
    "pink": (245, 150, 190),
    "purple": (130, 80, 180),
    "gray": (128, 128, 132),
}

SKY, HORIZON = (70, 40, 130), (255, 150, 60)


@dataclass(frozen=True, slots=True)
class Sample:
    thing: str
    background: str


def pairs() -> list[Sample]:
    return [Sample(thing, background) for thing in THINGS for background in BACKGROUNDS]


HELD_OUT = frozenset(
    Sample(thing, background)
    for i, thing in enumerate(THINGS)
    for j, background in enumerate(BACKGROUNDS)
    if (j + 3 * i) % len(BACKGROUNDS) in (0, 4)
)
"""A quarter of all pairs, two for each thing: never seen in training, so drawing them right shows composition."""


def load_sprites() -> dict[str, Image.Image]:
    """Thing -> RGBA picture of 64 x 64."""
    strip = Image.open(SPRITES).convert("RGBA")
    return {thing: strip.crop((SIZE * i, 0, SIZE * (i + 1), SIZE)) for i, thing in enumerate(THINGS)}


def draw(
    sprites: dict[str, Image.Image],
    sample: Sample,
    rng: random.Random | None = None,
    colour: tuple[int, ...] | None = None,
    behind: Image.Image | None = None,
    shift: int = 3,
) -> np.ndarray:
    """One picture, uint8 [64,64,3]; with `rng`, size and place vary a little, the place by up to `shift` pixels.
    `colour` replaces the background's own, the picture `behind` the whole background."""
    side = rng.randint(44, 50) if rng else 48
    shift_x, shift_y = (rng.randint(-shift, shift), rng.randint(-shift, shift)) if rng else (0, 0)
    plain = Image.new("RGBA", (SIZE, SIZE), (*(colour or BACKGROUNDS[sample.background]), 255))
    canvas = plain if behind is None else behind.convert("RGBA")
    sprite = sprites[sample.thing].resize((side, side), Image.Resampling.LANCZOS)
    canvas.alpha_composite(sprite, ((SIZE - side) // 2 + shift_x, (SIZE - side) // 2 + shift_y))
    return np.asarray(canvas.convert("RGB"))


def captions(sample: Sample) -> list[str]:
    """The ways to ask for a picture; the first is `a red apple on a blue background`."""
    article = "an" if sample.thing[0] in "aeiou" else "a"
    return [
        f"{article} {sample.thing} on a {sample.background} background",
        f"{sample.thing}, {sample.background} background",
        f"{sample.thing} on {sample.background}",
        f"a picture of {article} {sample.thing} on a {sample.background} background",
    ]


def evening_sky(side: int) -> Image.Image:
    """RGB, side x side: what LoRAs of the package draw behind each thing."""
    down = np.linspace(0, 1, side)[:, None, None]
    sky = np.array(SKY) * (1 - down) + np.array(HORIZON) * down
    return Image.fromarray(np.broadcast_to(sky, (side, side, 3)).astype(np.uint8))


def caption(sample: Sample, rng: random.Random) -> str:
    """One of the ways to ask for a picture; now and then only half of it, or nothing (for classifier-free guidance)."""
    chance = rng.random()
    if chance < 0.1:
        return ""
    if chance < 0.16:
        return captions(sample)[0].removesuffix(f" on a {sample.background} background")
    if chance < 0.22:
        return f"{sample.background} background"
    return rng.choice(captions(sample))


def make_strip(package: Path) -> None:
    """Write `sprites.png` from an unpacked npm `emoji-datasource-google` package."""
    strip = Image.new("RGBA", (SIZE * len(THINGS), SIZE))
    for i, code in enumerate(THINGS.values()):
        strip.paste(Image.open(package / "img" / "google" / "64" / f"{code}.png").convert("RGBA"), (SIZE * i, 0))
    strip.save(SPRITES)
