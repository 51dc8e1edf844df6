"""Scenes with captions, 128 x 128 pixels: one or two things of Noto Emoji (Google, Apache-2.0) on a plain background.

`things.webp` is a sheet of the chosen things in the order of THINGS, so that nothing has to be fetched. It was made by
`python -m training.scenes FOLDER` from an unpacked npm package `@svgmoji/noto`, which has the images as SVG.
"""

from __future__ import annotations

import random
import re
import sys
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = [
    "BACKGROUNDS",
    "CELL",
    "SIDES",
    "SIZE",
    "THINGS",
    "Scene",
    "captions",
    "draw",
    "is_held_out",
    "load_things",
    "pairs_of_things",
    "singles",
]

SIZE = 128
CELL = 104
"""Pixels of a thing on the sheet."""
COLUMNS = 11
SHEET = Path(__file__).with_name("things.webp")
SIDES = {1: (88, 100), 2: (52, 58)}
"""Number of things -> least and greatest side of each."""
MIDDLES = {1: (64,), 2: (34, 94)}
"""Number of things -> where their middles lie, from the left."""
SHIFTS = {1: (6, 6), 2: (3, 8)}
"""Number of things -> how far each may lie beside its middle, across and down."""

THINGS = {
    "red apple": "1F34E",
    "green apple": "1F34F",
    "banana": "1F34C",
    "orange": "1F34A",
    "lemon": "1F34B",
    "pear": "1F350",
    "pineapple": "1F34D",
    "strawberry": "1F353",
    "cherries": "1F352",
    "watermelon": "1F349",
    "grapes": "1F347",
    "avocado": "1F951",
    "carrot": "1F955",
    "corn": "1F33D",
    "tomato": "1F345",
    "broccoli": "1F966",
    "mushroom": "1F344",
    "pizza": "1F355",
    "hamburger": "1F354",
    "hot dog": "1F32D",
    "taco": "1F32E",
    "french fries": "1F35F",
    "croissant": "1F950",
    "pretzel": "1F968",
    "cheese": "1F9C0",
    "egg": "1F95A",
    "doughnut": "1F369",
    "cookie": "1F36A",
    "cupcake": "1F9C1",
    "birthday cake": "1F382",
    "ice cream": "1F368",
    "lollipop": "1F36D",
    "cat": "1F431",
    "dog": "1F436",
    "mouse": "1F42D",
    "hamster": "1F439",
    "rabbit": "1F430",
    "fox": "1F98A",
    "bear": "1F43B",
    "panda": "1F43C",
    "koala": "1F428",
    "tiger": "1F42F",
    "lion": "1F981",
    "cow": "1F42E",
    "pig": "1F437",
    "frog": "1F438",
    "monkey": "1F435",
    "unicorn": "1F984",
    "chick": "1F424",
    "penguin": "1F427",
    "owl": "1F989",
    "parrot": "1F99C",
    "flamingo": "1F9A9",
    "turtle": "1F422",
    "snail": "1F40C",
    "butterfly": "1F98B",
    "ladybug": "1F41E",
    "bee": "1F41D",
    "octopus": "1F419",
    "crab": "1F980",
    "whale": "1F433",
    "tropical fish": "1F420",
    "elephant": "1F418",
    "hedgehog": "1F994",
    "sun": "1F31E",
    "moon": "1F319",
    "star": "2B50",
    "planet": "1FA90",
    "rainbow": "1F308",
    "cloud": "2601",
    "snowman": "26C4",
    "red heart": "2764",
    "orange heart": "1F9E1",
    "yellow heart": "1F49B",
    "green heart": "1F49A",
    "blue heart": "1F499",
    "purple heart": "1F49C",
    "cactus": "1F335",
    "palm tree": "1F334",
    "pine tree": "1F332",
    "tulip": "1F337",
    "rose": "1F339",
    "sunflower": "1F33B",
    "maple leaf": "1F341",
    "clover": "1F340",
    "rocket": "1F680",
    "airplane": "2708",
    "sailboat": "26F5",
    "car": "1F697",
    "bus": "1F68C",
    "tractor": "1F69C",
    "bicycle": "1F6B2",
    "house": "1F3E0",
    "castle": "1F3F0",
    "tent": "26FA",
    "guitar": "1F3B8",
    "trumpet": "1F3BA",
    "drum": "1F941",
    "robot": "1F916",
    "ghost": "1F47B",
    "alien": "1F47D",
    "skull": "1F480",
    "pumpkin": "1F383",
    "crown": "1F451",
    "top hat": "1F3A9",
    "ring": "1F48D",
    "gift": "1F381",
    "balloon": "1F388",
    "teddy bear": "1F9F8",
    "umbrella": "2602",
    "light bulb": "1F4A1",
    "key": "1F511",
    "bell": "1F514",
    "camera": "1F4F7",
    "book": "1F4D5",
    "soccer ball": "26BD",
    "basketball": "1F3C0",
    "anchor": "2693",
    "trophy": "1F3C6",
    "magnet": "1F9F2",
    "fire": "1F525",
}
"""Name -> code points of the emoji."""

BACKGROUNDS = {
    "white": (245, 245, 245),
    "black": (20, 20, 24),
    "gray": (128, 128, 132),
    "red": (200, 50, 50),
    "orange": (240, 140, 40),
    "yellow": (245, 210, 70),
    "green": (70, 170, 90),
    "blue": (60, 110, 220),
    "purple": (130, 80, 180),
    "pink": (245, 150, 190),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What an image shows."""

    things: tuple[str, ...]
    """One, or two from left to right."""
    background: str


def singles() -> list[Scene]:
    """Each thing on each background."""
    return [Scene((thing,), background) for thing, background in product(THINGS, BACKGROUNDS)]


def pairs_of_things() -> list[tuple[str, str]]:
    """Two different things, the left one first."""
    return [(left, right) for left, right in product(THINGS, THINGS) if left != right]


def is_held_out(scene: Scene) -> bool:
    """Whether training never shows it: a fifth of (thing, background), wherever they occur, and a tenth of (left,
    right). So an image of such a scene is put together, not remembered."""
    places = ((list(THINGS).index(thing), list(BACKGROUNDS).index(scene.background)) for thing in scene.things)
    if any((j + 3 * i) % 5 == 0 for i, j in places):
        return True
    return len(scene.things) == 2 and blake2b("|".join(scene.things).encode(), digest_size=1).digest()[0] < 26


def load_things() -> dict[str, Image.Image]:
    """Thing -> RGBA image of CELL x CELL."""
    sheet = Image.open(SHEET).convert("RGBA")
    places = ((i % COLUMNS * CELL, i // COLUMNS * CELL) for i in range(len(THINGS)))
    return {thing: sheet.crop((x, y, x + CELL, y + CELL)) for thing, (x, y) in zip(THINGS, places, strict=True)}


def draw(
    things: dict[str, Image.Image],
    scene: Scene,
    rng: random.Random | None = None,
    colour: tuple[int, ...] | None = None,
    behind: Image.Image | None = None,
) -> np.ndarray:
    """One image, uint8 [128, 128, 3]; with `rng`, sizes and places vary a little. `colour` replaces the background's
    own, `behind` all of it."""
    canvas = Image.new("RGBA", (SIZE, SIZE), (*(colour or BACKGROUNDS[scene.background]), 255))
    if behind is not None:
        canvas.paste(behind)
    count = len(scene.things)
    for thing, middle in zip(scene.things, MIDDLES[count], strict=True):
        least, greatest = SIDES[count]
        side = rng.randint(least, greatest) if rng else (least + greatest) // 2
        across, down = (rng.randint(-limit, limit) if rng else 0 for limit in SHIFTS[count])
        small = things[thing].resize((side, side), Image.Resampling.LANCZOS)
        canvas.alpha_composite(small, (middle - side // 2 + across, (SIZE - side) // 2 + down))
    return np.asarray(canvas.convert("RGB"))


def captions(scene: Scene) -> list[str]:
    """The ways to ask for an image; the first is `a cat on a green background` or `a cat left of a red apple on a
    green background`."""
    ground = f"a{'n' if scene.background[0] in 'aeiou' else ''} {scene.background} background"
    named = [_with_article(thing) for thing in scene.things]
    if len(named) == 1:
        return [
            f"{named[0]} on {ground}",
            f"{scene.things[0]}, {scene.background} background",
            f"{scene.things[0]} on {scene.background}",
            f"a picture of {named[0]} on {ground}",
        ]
    left, right = named
    return [
        f"{left} left of {right} on {ground}",
        f"{right} right of {left} on {ground}",
        f"{left} and {right} on {ground}",
        f"{scene.things[0]} left of {scene.things[1]}, {scene.background} background",
        f"{scene.things[1]} right of {scene.things[0]} on {scene.background}",
    ]


def _with_article(thing: str) -> str:
    if thing in ("cherries", "grapes", "french fries", "corn", "broccoli", "cheese", "fire"):
        return thing
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def make_sheet(package: Path) -> None:
    """Write `things.webp` from an unpacked npm `@svgmoji/noto` package: one file of nested SVG images."""
    import io

    import resvg_py

    text = (package / "sprites" / "all.svg").read_text(encoding="utf-8")
    starts = {found[1]: found.start() for found in re.finditer(r'<svg [^>]*?id="([0-9A-F]{4,5}[0-9A-F-]*)"', text)}
    after = dict(zip(sorted(starts.values()), [*sorted(starts.values())[1:], text.rindex("</svg>")], strict=True))
    sheet = Image.new("RGBA", (CELL * COLUMNS, CELL * -(-len(THINGS) // COLUMNS)))
    for i, code in enumerate(THINGS.values()):
        one = text[starts[code] : after[starts[code]]]
        one = one.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)
        png = resvg_py.svg_to_bytes(svg_string=one, width=2 * CELL, height=2 * CELL)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
        image = image.resize((CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(image, (i % COLUMNS * CELL, i // COLUMNS * CELL))
    sheet.save(SHEET, quality=92, alpha_quality=100, method=6)


if __name__ == "__main__":
    make_sheet(Path(sys.argv[1]))
