"""Pictures of strangers: by what they are, not by what they are called; sized before they are decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image

from graphflow import Problem

from .options import Limits
from .refusal import Refused

__all__ = ["ENDINGS", "FORMATS", "INLINE", "decode", "format_of", "with_alpha_of"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded at all; Pillow knows many more, with more holes."""
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
INLINE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
"""What a browser may show in place."""


@dataclass(frozen=True, slots=True)
class Decoded:
    image: Image.Image
    format: str


def format_of(file: BinaryIO) -> str | None:
    """The format that the bytes have, or None; reads the head only and rewinds."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.format
    except Exception:
        return None
    finally:
        file.seek(0)


def decode(data: bytes, limits: Limits) -> Decoded:
    """Decode a picture whole, all its frames. Raises Refused (400, 413) for what is none, is damaged, or is too large."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large("far too many pixels", limits) from None
    except Exception:
        known = ", ".join(FORMATS)
        raise Refused(400, Problem("not_a_picture", f"these bytes are no picture of a known kind ({known})")) from None
    if image.width * image.height > limits.picture:
        raise _too_large(f"{image.width} x {image.height} pixels", limits)
    try:
        frames = getattr(image, "n_frames", 1)
        if frames > limits.frames or frames * image.width * image.height > limits.picture:
            raise _too_large(f"{frames} frames of {image.width} x {image.height} pixels", limits)
        for index in range(frames - 1, -1, -1):
            if frames > 1:
                image.seek(index)
            image.load()
    except Refused:
        raise
    except Exception as error:
        # Decoders raise whatever they like at damaged files: SyntaxError, struct.error, ValueError, OSError ...
        raise Refused(400, Problem("damaged_picture", f"the picture is damaged: {type(error).__name__}")) from None
    return Decoded(image, image.format or "PNG")


def with_alpha_of(original: Image.Image, mask: Image.Image) -> bytes:
    """The original as PNG, with its metadata texts, and with the alpha of another picture."""
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


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def _too_large(found: str, limits: Limits) -> Refused:
    return Refused(
        413, Problem("too_large", f"the picture has {found}", hint=f"at most {limits.picture} pixels are taken")
    )
