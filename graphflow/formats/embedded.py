"""Workflows that images carry: PNG text chunks, and the EXIF data of WebP, JPEG and AVIF.

ComfyUI keeps two: `prompt`, what ran, in the API format, and `workflow`, the editor's own file. In EXIF data they are
texts `prompt:{...}` and `workflow:{...}` in any of its fields. AUTOMATIC1111's program and its kin keep one text,
`parameters`, which is read as a workflow in the API format.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from .a1111 import read_parameters
from .png import read_text_chunks

__all__ = ["is_image", "read_embedded"]

NAMES = ("prompt", "workflow", "graphflow")
EXIF_FIELDS = 0x8769


def is_image(data: bytes) -> bool:
    """Whether the bytes begin like an image file that may carry a workflow."""
    return (
        data.startswith((b"\x89PNG", b"\xff\xd8\xff"))
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or data[4:12] in (b"ftypavif", b"ftypavis")
    )


def read_embedded(data: bytes) -> dict[str, str]:
    """The texts under `prompt` and `workflow`, where they are there; damaged images have none.

    A `prompt` that is not JSON, as other programs call the words of a prompt, gives way to a `workflow` beside it.
    Where there is neither, it is the workflow that the text `parameters` describes.
    """
    found, parameters = _texts(data)
    if "workflow" in found and not _may_be_json(found.get("prompt", "{")):
        del found["prompt"]
    if not found and parameters is not None:
        workflow = read_parameters(parameters)
        if workflow is not None:
            found["prompt"] = json.dumps(workflow)
    return found


def _texts(data: bytes) -> tuple[dict[str, str], str | None]:
    """(the texts under the two names, the text of parameters)"""
    if data.startswith(b"\x89PNG"):
        texts = read_text_chunks(data)
        return {name: text for name, text in texts.items() if name in NAMES}, texts.get("parameters")
    found: dict[str, str] = {}
    parameters = None
    for text in _exif_texts(data):
        name, colon, rest = text.partition(":")
        if colon and name.strip().lower() in NAMES:
            found.setdefault(name.strip().lower(), rest)
        elif "Steps: " in text:
            parameters = text
    return found, parameters


def _may_be_json(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n").startswith("{")


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
        if value[:8] == b"UNICODE\0":
            return _utf16(value[8:])
        return (value[8:] if value[:8] in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _utf16(data: bytes) -> str:
    """In the order that its mark states, or else the one that makes most letters Latin: their high byte is 0.

    Some programs write UTF-8 there.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    even, odd = data[0::2].count(0), data[1::2].count(0)
    if not even and not odd:
        return data.decode("utf-8", "replace")
    return data.decode("utf-16-le" if odd > even else "utf-16-be", "replace")
