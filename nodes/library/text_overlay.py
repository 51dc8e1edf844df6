"""Text written on images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, FreeLiteral, GraphFlowError, Help, Image, Multiline, Problem, Range, Settings, Wire, node

from ..devices.environment import lettering
from .primitives import color_digits

if TYPE_CHECKING:
    from torch import Tensor

    from ..lettering import Font

_Color = Annotated[Any, Wire("COLOR"), FreeLiteral()]
_SMALLEST = 8
"""The least size of the font in pixels; what does not fit then is cut off."""
_LONGEST = 10_000


def check_overlay(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[Any]:
    """Raises a Problem where the colour is not one, or where no font has a character of the text."""
    if "color" in literals:
        color_digits(literals["color"])
    if isinstance(literals.get("text"), str):
        _prepared(literals["text"])
    yield from ()


@node(
    "TextOverlay",
    category="image/text",
    display_name="Draw Text Overlay",
    version="1",
    environment=lettering,
    check=check_overlay,
)
def text_overlay(
    images: Image,
    text: Annotated[str, Multiline()] = "",
    font_size: Annotated[float, Range(0.5, 50.0, 0.5), Help("percent of the height of the image")] = 5.0,
    color: _Color = "#ffffff",
    position: Annotated[str, Choice(("top", "bottom"))] = "top",
    align: Annotated[str, Choice(("left", "center", "right"))] = "left",
    outline: Annotated[bool, Help("a black line around the letters")] = True,
) -> Image:
    r"""Write a text on all images of a batch, on lines of its own (`\n`), with tabs (`\t`), wrapped at their width.

    A text that is too high gets a smaller font, down to 8 pixels. English is written in the font that Pillow brings,
    other Latin letters, Greek and Cyrillic in that of matplotlib (extra `plots`).
    """
    lines = _prepared(text)
    if not lines.strip():
        return images
    digits = color_digits(color)
    colour = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    opacity = int(digits[6:] or "ff", 16) / 255
    height, width = images.shape[1:3]
    letters, edge = _covers(lines, max(1, round(height * font_size / 100)), width, height, position, align, outline)
    return _painted(_painted(images, edge * opacity, [0.0, 0.0, 0.0]), letters * opacity, colour)


def _prepared(text: str) -> str:
    from ..lettering import missing_in, written

    if len(text) > _LONGEST:
        message = f"the text has {len(text):,} characters"
        hint = f"at most {_LONGEST:,} are written on an image"
        raise GraphFlowError([Problem("too_long", message, input="text", hint=hint)])
    text = text.replace("\\n", "\n").replace("\\t", "\t").replace("\r\n", "\n").expandtabs(4)
    text = written(text)
    missing = missing_in(text)
    if missing:
        message = f"no font has the characters {missing[:20]!r}"
        hint = "pip install 'graphflow-engine[plots]' has accents, Greek and Cyrillic; leave out other signs"
        raise GraphFlowError([Problem("no_glyph", message, input="text", hint=hint)])
    return text


def _covers(
    text: str, size: int, width: int, height: int, position: str, align: str, outline: bool
) -> tuple[Tensor, Tensor]:
    """[H,W,1] each: how much the letters and the line around them cover of each pixel."""
    import numpy as np
    import torch
    from PIL import Image as Picture
    from PIL import ImageDraw

    from ..lettering import font_for

    while True:
        font = font_for(text, size)
        stroke = max(1, round(size / 12)) if outline else 0
        margin = max(1, size // 2) + stroke
        lines = _wrapped(text, font, max(1, width - 2 * margin))
        step = sum(font.getmetrics()) + 2 * stroke if hasattr(font, "getmetrics") else round(1.2 * size)
        if len(lines) * step + 2 * margin <= height or size <= _SMALLEST:
            break
        size = max(_SMALLEST, min(size - 1, round(0.9 * size)))
    found = []
    top = margin if position == "top" else max(margin, height - margin - len(lines) * step)
    for around in (0, stroke):
        cover = Picture.new("L", (width, height))
        draw = ImageDraw.Draw(cover)
        for number, line in enumerate(lines):
            y = top + number * step
            if y >= height:
                break
            x, anchor = {
                "left": (margin, "la"),
                "center": (width / 2, "ma"),
                "right": (width - margin, "ra"),
            }[align]
            draw.text((x, y + stroke), line, 255, font, anchor=anchor, stroke_width=around)
        found.append(torch.from_numpy(np.array(cover, dtype=np.float32) / 255.0)[..., None])
    return found[0], found[1] if stroke else torch.zeros_like(found[1])


def _wrapped(text: str, font: Font, width: int) -> Sequence[str]:
    """Lines that are not wider than a width: broken between words, and within words that are wider."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line: str | None = None
        for word in paragraph.split(" "):
            tried = word if line is None else f"{line} {word}"
            if font.getlength(tried) <= width:
                line = tried
                continue
            if line:
                lines.append(line)
            while font.getlength(word) > width and len(word) > 1:
                most = _fitting(word, font, width)
                lines.append(word[:most])
                word = word[most:]
            line = word
        lines.append(line or "")
    return lines


def _fitting(word: str, font: Font, width: int) -> int:
    """How many characters of a word go into a width; at least one."""
    low, high = 1, len(word)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(word[:middle]) <= width else (low, middle - 1)
    return low


def _painted(images: Tensor, cover: Tensor, colour: Sequence[float]) -> Tensor:
    """A colour over images [B,H,W,C]; an alpha channel becomes opaque where it covers."""
    import torch

    cover = cover.to(images)
    parts = torch.tensor([*colour, 1.0][: images.shape[-1]], dtype=images.dtype, device=images.device)
    return images * (1.0 - cover) + parts * cover
