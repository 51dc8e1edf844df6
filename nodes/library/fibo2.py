"""FIBO 2: a caption with the images that it is about."""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Conditioning, Grow, Image, Latent, Multiline, Range, Settings, node

from ..devices.environment import numerics
from ..families.fibo2 import LATENT
from ..families.fibo2.captions import NOTHING, edit_prompt, image_prompt
from ..limits import check_latent
from ..model.wires import ClipWire, VaeWire
from ..resampling import resize
from .editing import encoded, latent_of, vision_mark, with_references

if TYPE_CHECKING:
    from torch import Tensor

_Words = Annotated[str, Multiline(words=True)]
_Images = Annotated[dict[str, Any], Grow(Image, names=tuple(f"image_{n}" for n in range(1, 17)), optional=True)]
_Pixels = Annotated[int, Range(0, 16384, 16)]
SIDE, SEEN = 1024, 768
"""Sides in pixels: of a square image, and the longest one that the text encoder sees."""
MULTIPLE, LEAST = 16, 64
"""Of the sides of images, and the shortest side."""


class Fibo2Prompt(NamedTuple):
    positive: Conditioning
    negative: Conditioning
    latent: Latent


@node(
    "TextEncodeFibo2",
    category="advanced/conditioning",
    display_name="Text Encode (FIBO 2)",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def text_encode_fibo2(
    settings: Settings,
    clip: ClipWire,
    prompt: _Words,
    negative_prompt: _Words,
    width: _Pixels = 0,
    height: _Pixels = 0,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    vae: VaeWire | None = None,
    images: _Images | None = None,
) -> Fibo2Prompt:
    """Encode a caption and a negative one for FIBO 2, with images to edit that the text encoder sees.

    A caption is a JSON object or a text; an empty negative one is the empty caption of the model's training. With a VAE
    the images are reference latents as well. `width` and `height` are those of the image that is made; 0 stands for the
    size of the model's training nearest to the proportions of the first image. One image is cut to that size; several
    keep their proportions, each in its own size of the training.
    """
    import torch

    given = [image[:1, ..., :3] for image in (images or {}).values() if image is not None]
    whole = _size(given[0]) if given else (SIDE, SIDE)
    size = tuple(side // MULTIPLE * MULTIPLE or best for side, best in zip((width, height), whole, strict=True))
    shape = (batch_size, LATENT["channels"], size[1] // LATENT["factor"], size[0] // LATENT["factor"])
    check_latent(shape)
    sized = [_cut_to(image, *(size if len(given) == 1 else _size(image))) for image in given]
    text = edit_prompt(prompt, len(given), vision_mark(clip)) if given else image_prompt(prompt)
    options = {"images": [_seen(image) for image in sized]} if sized else {}
    references = [] if vae is None else [latent_of(settings, vae, image) for image in sized]
    positive, negative = (
        with_references(encoded(settings, clip, words, shown), references)
        for words, shown in ((text, options), (negative_prompt or NOTHING, {}))
    )
    return Fibo2Prompt(positive, negative, {"samples": torch.zeros(shape)})


def _size(image: "Tensor") -> tuple[int, int]:
    """Width and height of the training for an image [B, H, W, C]."""
    return trained_size(image.shape[2] / image.shape[1])


@cache
def trained_size(ratio: float, area: int = SIDE * SIDE) -> tuple[int, int]:
    """Of the sizes within a tenth of an area, the one that cuts off least of an image of these proportions; of equal
    ones that nearest to the area."""
    sizes = [
        (across, down)
        for across in range(LEAST, 11 * area // (10 * LEAST) + 1, MULTIPLE)
        for down in range(
            max(LEAST, 9 * area // (10 * across) // MULTIPLE * MULTIPLE), 11 * area // (10 * across) + 1, MULTIPLE
        )
        if 9 * area <= 10 * across * down <= 11 * area
    ]

    def lost(size: tuple[int, int]) -> float:
        have = size[0] / size[1]
        return round(1 - min(have / ratio, ratio / have), 9)

    return min(sizes, key=lambda size: (lost(size), abs(size[0] * size[1] - area), -size[0]))


def _cut_to(image: "Tensor", width: int, height: int) -> "Tensor":
    return resize(image.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)


def _seen(image: "Tensor") -> "Tensor":
    """[H, W, 3], at most 768 pixels along a side."""
    height, width = image.shape[1:3]
    scale = min(1.0, SEEN / max(height, width))
    across, down = (max(1, round(side * scale)) for side in (width, height))
    return image[0] if scale == 1.0 else _cut_to(image, across, down)[0]
