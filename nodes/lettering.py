"""Fonts for texts on images: the one that Pillow brings, and matplotlib's for what that one cannot write.

Pillow's Aileron has the letters of English; matplotlib's DejaVu Sans also has accents, Greek and Cyrillic.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

__all__ = ["Font", "font_for", "missing_in", "written"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_NO_CHARACTER = "\uffff"
_PROBE = 24
"""The size in which glyphs are compared with the one that stands for no glyph."""


def written(text: str) -> str:
    """The text with composed accents and plain spaces, as it is drawn."""
    return "".join(" " if one.isspace() and one != "\n" else one for one in unicodedata.normalize("NFC", text))


def font_for(text: str, size: int) -> Font:
    """The first font that has every character of the text, or else the one that has more of them."""
    return _font(_path_for(text), size)


def missing_in(text: str) -> str:
    """The characters of a text that its font cannot write, each once."""
    path = _path_for(text)
    return "".join(dict.fromkeys(one for one in text if not _has(one, path)))


def _path_for(text: str) -> str | None:
    return None if all(_has(one, None) for one in set(text)) else _dejavu()


@cache
def _dejavu() -> str | None:
    """The file of DejaVu Sans, where matplotlib is installed; it is not imported."""
    spec = find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return str(path)
    return None


def _font(path: str | None, size: int) -> Font:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@lru_cache(maxsize=4096)
def _has(character: str, path: str | None) -> bool:
    return character.isspace() or _drawn(character, path) != _drawn(_NO_CHARACTER, path)


@lru_cache(maxsize=8)
def _drawn(character: str, path: str | None) -> bytes:
    mask = _font(path, _PROBE).getmask(character)
    return repr(mask.size).encode() + bytes(mask)
