"""Images of strangers: recognised by content, not by name; their size is checked before they are decoded."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any, BinaryIO

from PIL import Image

from graphflow import Problem

from ..options import RequestLimits
from . import decoding
from .decoding import FORMATS, BadImage, decoded
from .refusal import RequestRefused

__all__ = ["ENDINGS", "INLINE", "alone", "check_apart", "decode", "encode", "format_of", "with_alpha_of"]

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
INLINE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
"""The formats that a browser may show in place."""


def format_of(file: BinaryIO) -> str | None:
    """The format that the bytes have, or None; reads the head only and rewinds."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.format
    except Exception:
        return None
    finally:
        file.seek(0)


async def check_apart(data: bytes, limits: RequestLimits) -> None:
    """Decode the image of a stranger in a process of its own, with its own limits. Raises RequestRefused (400, 413)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        decoding.__file__,
        str(limits.image),
        str(limits.frames),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        async with asyncio.timeout(2 * decoding.SECONDS):
            output, _ = await process.communicate(data)
        found = json.loads(output)
    except (TimeoutError, ValueError):
        raise _refused(BadImage("damaged_image", "the image cannot be decoded within the limits")) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if found:
        raise _refused(BadImage(found["code"], found["message"]))


def decode(data: bytes, limits: RequestLimits) -> Image.Image:
    """Decode one of our own images, or one that has been checked. Raises RequestRefused (400, 413)."""
    try:
        return decoded(data, limits.image, limits.frames)
    except BadImage as error:
        raise _refused(error) from None


def with_alpha_of(original: Image.Image, mask: Image.Image) -> bytes:
    """The original as PNG, with its metadata texts, and with the alpha of another image."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in getattr(original, "text", {}).items():
        info.add_text(key, value)
    alpha = mask.convert("RGBA").getchannel("A")
    if alpha.size != original.size:
        alpha = alpha.resize(original.size)
    result = original.convert("RGBA")
    result.putalpha(alpha)
    return encode(result, "PNG", pnginfo=info)


def alone(alpha: Image.Image) -> Image.Image:
    """An alpha channel and no colours (RGBA, black): a mask editor reads it where it has put it."""
    image = Image.new("RGBA", alpha.size)
    image.putalpha(alpha)
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def _refused(error: BadImage) -> RequestRefused:
    return RequestRefused(413 if error.code == "too_large" else 400, Problem(error.code, error.message, input="image"))
