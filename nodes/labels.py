"""A grid of images with texts, drawn with the font that Pillow brings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["grid"]

_LARGEST, _SMALLEST = 18, 7
"""Sizes of the font in pixels."""
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def grid(
    images: Sequence[Tensor], columns: int, labels: Sequence[str] = (), rows: Sequence[str] = (), gap: int = 6
) -> Tensor:
    """Images [H, W, 3] of one size in rows on white -> [1, H', W', 3]. A label stands below its image, the title of
    a row on its left."""
    height, width = images[0].shape[:2]
    size = max(_SMALLEST, min(_LARGEST, width // 6))
    left = max((round(_width(row, size)) for row in rows), default=0)
    left = left + gap if left else 0
    columns = min(columns, len(images))
    starts = range(0, len(images), columns)
    below = [round(size * 1.5) if any(labels[start : start + columns]) else 0 for start in starts]
    tops = [gap + line * (height + gap) + sum(below[:line]) for line in range(len(below))]
    whole = (left + columns * (width + gap) + gap, tops[-1] + height + below[-1] + gap)
    sheet = Image.new("RGB", whole, "white")
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        line, column = divmod(number, columns)
        x, y = left + gap + column * (width + gap), tops[line]
        sheet.paste(_image(image), (x, y))
        if number < len(labels):
            text, font = _fitted(labels[number], size, width + gap)
            draw.text((x + width / 2, y + height + below[line] / 2), text, "black", font, anchor="mm")
    for top, title in zip(tops, rows, strict=False):
        draw.text((gap, top + height / 2), title, "black", _font(size), anchor="lm")
    return torch.from_numpy(np.array(sheet, dtype=np.float32) / 255.0)[None]


def _image(image: Tensor) -> Image.Image:
    return Image.fromarray((image.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy())


def _fitted(text: str, size: int, width: int) -> tuple[str, _Font]:
    """The text and a font in which it is not wider; the smallest font cuts it."""
    while size > _SMALLEST and _width(text, size) > width:
        size -= 1
    if _width(text, size) > width:
        while text and _width(text + "...", size) > width:
            text = text[:-1]
        text += "..."
    return text, _font(size)


def _width(text: str, size: int) -> float:
    return float(_font(size).getlength(text))


def _font(size: int) -> _Font:
    return ImageFont.load_default(size)
