"""Image files as float32 numbers: which formats are opened, frames, orientation, 16 and 32 bits a channel.

A file is opened by its content, and only in a format for images: Pillow knows others, which run programs (EPS), or are
containers for anything (HDF5). Nothing but the pixels is read, so texts and profiles of any size do no harm.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from graphflow import GraphFlowError, Problem

from ..limits import LIMITS

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ENDINGS", "Frame", "image_size", "read_frames"]

FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "ICO",
    "QOI",
    "HEIF",
    "TGA",
)
"""As Pillow names them. TGA is last: its files begin with no mark of their own."""
_HEIF = (".heic", ".heif") if find_spec("pillow_heif") is not None else ()
ENDINGS = (
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".gif",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".avif",
    ".avifs",
    ".jp2",
    ".j2k",
    ".jpx",
    ".jpf",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".ico",
    ".qoi",
    ".tga",
    *_HEIF,
)
"""The name endings of files of these formats."""
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""The errors of Pillow on files that are damaged, or are not images."""
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "F")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_ORIENTATION = (b"Raw profile type ", b"XML:com.adobe.xmp")
"""Old programs keep the orientation of a photo in texts of these names."""
_LONGEST = 1 << 20


class Frame(NamedTuple):
    """One image of a file."""

    colours: np.ndarray
    """float32 [H,W,3] in 0..1."""
    opacity: np.ndarray | None
    """float32 [H,W] in 0..1; None where the image has no transparency."""


def read_frames(path: Path | bytes, name: str, most: int | None = None) -> list[Frame]:
    """The images of a file, or of its bytes, that have the size of its first one, at most so many; `name` is for
    messages.

    Raises a Problem where it is not an image, is damaged, or has too many pixels.
    """
    from PIL import Image
    from PIL.Image import DecompressionBombError

    _register_heif()
    try:
        source = _source(path)
        with Image.open(source, formats=_formats()) as opened:
            count = (
                1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
            )  # a second view is not a second frame
            count = min(count, most) if most is not None else count
            if count * opened.width * opened.height > LIMITS.pixels:
                raise _too_large(name, f"{count} x " * (count > 1) + f"{opened.width} x {opened.height} pixels")
            return list(_frames(opened, source, count))
    except DecompressionBombError:
        raise _too_large(name, "more pixels than any camera's") from None
    except _DAMAGED as error:
        raise _unreadable(name, error) from None


def image_size(path: Path, name: str) -> tuple[int, int]:
    """Width and height as the file states them, from its header alone. Raises a Problem where it is not an image."""
    from PIL import Image

    _register_heif()
    try:
        with Image.open(path, formats=_formats()) as opened:
            return opened.size
    except Image.DecompressionBombError:
        raise _too_large(name, "more pixels than any camera's") from None
    except _DAMAGED as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> GraphFlowError:
    hint = "save it anew with a program that can show it, or take it away"
    if type(error).__name__ == "UnidentifiedImageError":
        error = OSError("its content is not an image in a format that is read")
        hint = "read are " + ", ".join(ending[1:] for ending in ENDINGS)
    return GraphFlowError([Problem("unreadable_image", f"{name} cannot be read: {error}", input="image", hint=hint)])


def _too_large(name: str, size: str) -> GraphFlowError:
    hint = f"at most {LIMITS.pixels} pixels are read"
    return GraphFlowError([Problem("too_large", f"{name} has {size}", input="image", hint=hint)])


def _register_heif() -> None:
    if _HEIF:
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _source(path: Path | bytes) -> io.BytesIO:
    """The file in memory, a PNG without its texts: Pillow gives up an image for one that unpacks to over a megabyte."""
    data = path if isinstance(path, bytes) else path.read_bytes()
    return io.BytesIO(_without_texts(data) if data.startswith(b"\x89PNG\r\n\x1a\n") else data)


def _without_texts(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        at += 12 + length
        if kind not in _TEXTS or (length < _LONGEST and chunk[8:].startswith(_ORIENTATION)):
            kept.append(chunk)
    return b"".join(kept)


def _frames(opened: Any, source: io.BytesIO, count: int) -> Iterator[Frame]:
    from PIL import ImageOps, ImageSequence

    if count == 1 and (deep := _sixteen_bits(opened, source)) is not None:
        yield deep
        return
    size = None
    for image in islice(ImageSequence.Iterator(opened), count):
        turned = ImageOps.exif_transpose(image)
        if size is None or turned.size == size:
            size = turned.size
            yield Frame(_colours(turned, _white(image)), _opacity(turned))


def _colours(image: Any, white: tuple[str, float]) -> np.ndarray:
    """[H,W,3]. Grey of more than 8 bits keeps them: `white` is their number type and the one that is white.

    What is not a number is black.
    """
    import numpy as np

    if image.mode in _DEEP_GREY:
        kind, most = white
        grey = np.array(image).view(kind) if kind else np.array(image)
        numbers = np.nan_to_num(grey.astype(np.float64) / most).clip(0.0, 1.0).astype(np.float32)
        return np.repeat(numbers[..., None], 3, axis=2)
    return np.array(image.convert("RGB"), dtype=np.float32) / 255.0


def _white(image: Any) -> tuple[str, float]:
    """(number type, empty for Pillow's own; the number that is white) of grey with more than 8 bits.

    A TIFF states its bits and whether they have a sign; what Pillow brings from elsewhere has 16, in larger numbers,
    too.
    """
    if image.mode == "F":
        return "", 1.0
    tags = getattr(image, "tag_v2", None) or {}
    stated = tags.get(258, 16)
    bits = stated[0] if isinstance(stated, tuple) else stated
    if tags.get(339, (1,))[0] == 2:
        return "", 2.0 ** (bits - 1) - 1.0
    return "uint32" if image.mode == "I" and bits == 32 else "", 2.0**bits - 1.0


def _opacity(image: Any) -> np.ndarray | None:
    import numpy as np

    if not ({"A", "a"} & set(image.getbands()) or "transparency" in image.info):
        return None
    return np.array(image.convert("RGBA").getchannel("A"), dtype=np.float32) / 255.0


def _sixteen_bits(opened: Any, source: io.BytesIO) -> Frame | None:
    """A PNG or TIFF with 16 bits of each colour; None for any other.

    Pillow keeps the high byte of each number. The same file read as if its bytes lay the other way round gives the low
    one.
    """
    import numpy as np
    from PIL import Image, ImageOps

    swapped = _swapped(opened.tile)
    if swapped is None or opened.format not in ("PNG", "TIFF"):
        return None
    low = Image.open(io.BytesIO(source.getvalue()), formats=[opened.format])
    mode, low.tile = swapped
    if mode == "LA":
        mixed = np.array(ImageOps.exif_transpose(low), dtype=np.float32)  # high and low byte of grey, of opacity
        both = (mixed[..., 0::2] * 256.0 + mixed[..., 1::2]) / 65535.0
        return Frame(np.repeat(both[..., :1], 3, axis=2), both[..., 1])
    high_bytes = np.array(ImageOps.exif_transpose(opened), dtype=np.float32)
    both = (high_bytes * 256.0 + np.array(ImageOps.exif_transpose(low), dtype=np.float32)) / 65535.0
    opacity = both[..., 3] if mode == "RGBA" else None
    clear = opened.info.get("transparency")
    if mode == "RGB" and isinstance(clear, tuple):
        whole = np.round(both * 65535.0)
        opacity = 1.0 - (whole == np.array(clear, dtype=np.float32)).all(axis=2).astype(np.float32)
    return Frame(np.ascontiguousarray(both[..., :3]), opacity)


def _swapped(tiles: Any) -> tuple[str, list[Any]] | None:
    """(mode, tiles) that read the other byte of 16-bit colours; None where these tiles hold none."""
    found, mode = [], ""
    for tile in tiles or ():
        raw = tile.args if isinstance(tile.args, str) else tile.args[0] if tile.args else None
        if not isinstance(raw, str) or raw.split(";")[0] not in ("RGB", "RGBA", "RGBX", "LA") or ";16" not in raw:
            return None
        mode, order = raw.split(";")[0], raw[-1]
        if mode == "LA":
            other = "RGBA"
        else:
            is_little = order == "L" or (order == "N" and sys.byteorder == "little")
            other = f"{mode};16{'B' if is_little else 'L'}"
        args = other if isinstance(tile.args, str) else (other, *tile.args[1:])
        found.append(tile._replace(args=args))
    return (mode, found) if found else None
