"""Workflows that images carry: PNG text chunks, and the EXIF data of WebP, JPEG and AVIF.

ComfyUI writes two: `prompt`, what ran, in the API format, and `workflow`, the editor's own file. In EXIF data they are
texts `prompt:{...}` and `workflow:{...}` in any of its fields.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from .png import read_text_chunks

__all__ = ["is_image", "read_embedded"]

NAMES = ("prompt", "workflow")
EXIF_FIELDS = 0x8769


def is_image(data: bytes) -> bool:
    """Whether the bytes begin like an image file that may carry a workflow."""
    return (
        data.startswith((b"\x89PNG", b"\xff\xd8\xff"))
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or data[4:12] in (b"ftypavif", b"ftypavis")
    )


def read_embedded(data: bytes) -> dict[str, str]:
    """The texts under `prompt` and `workflow`, where they are there. A damaged image has none."""
    if data.startswith(b"\x89PNG"):
        return {name: text for name, text in read_text_chunks(data).items() if name in NAMES}
    found: dict[str, str] = {}
    for text in _exif_texts(data):
        name, colon, rest = text.partition(":")
        if colon and name.strip().lower() in NAMES:
            found.setdefault(name.strip().lower(), rest)
    return found


def _exif_texts(data: bytes) -> Iterator[str]:
    from PIL import Image

    try:
        exif = Image.open(io.BytesIO(data)).getexif()
        values = [*exif.values(), *exif.get_ifd(EXIF_FIELDS).values()]
    except Exception:  # Pillow raises whatever a damaged file makes it raise.
        return
    for value in values:
        text = _text(value)
        if text is not None:
            yield text.strip("\0")


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        # A user comment begins with eight bytes that name its encoding.
        comment = value[8:] if value[:8] in (b"ASCII\0\0\0", b"UNICODE\0") else value
        return comment.decode("utf-16-be" if value[:8] == b"UNICODE\0" else "utf-8", "replace")
    return value if isinstance(value, str) else None
