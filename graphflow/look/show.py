"""Results in a notebook: images as images, the rest in a few words. Imports no model library."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["html_of_files", "html_of_outputs", "image_tag", "in_words", "is_image", "png_of"]

MOST = 16
"""The most images of one batch that are shown."""


def is_image(value: Any) -> bool:
    """Whether a value has the form of an IMAGE: numbers with fractions, [B,H,W,C] with 1, 3 or 4 channels."""
    shape = tuple(getattr(value, "shape", ()))
    return len(shape) == 4 and shape[-1] in (1, 3, 4) and all(shape) and "float" in str(getattr(value, "dtype", ""))


def png_of(image: Any) -> bytes:
    """One image [H,W,C] in 0..1, of numpy or torch, as PNG."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image, dtype=np.float32)
    pixels = (np.clip(np.nan_to_num(values), 0, 1) * 255 + 0.5).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, format="PNG")
    return file.getvalue()


def html_of_files(paths: Iterable[Path]) -> str:
    """Images as they are, other files by name; one that is gone is named as well."""
    parts = []
    for path in paths:
        if path.suffix.lower() == ".png" and path.is_file():
            parts.append(image_tag(path.read_bytes(), path.name))
        else:
            parts.append(f"<div>{escape(str(path))}</div>")
    return "".join(parts)


def html_of_outputs(outputs: Mapping[str, Any]) -> str:
    parts = []
    for name, value in outputs.items():
        if is_image(value):
            parts += [image_tag(png_of(image), f"{name} {number}") for number, image in enumerate(value[:MOST])]
        else:
            parts.append(f"<div>{escape(name)}: {escape(in_words(value))}</div>")
    return "".join(parts)


def in_words(value: Any) -> str:
    """A tensor by its shape, anything else by the start of its repr."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {in_words(item)}" for key, item in list(value.items())[:8]) + "}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def image_tag(png: bytes, title: str) -> str:
    """An image as HTML that needs no other file."""
    data = base64.b64encode(png).decode()
    return f'<img title="{escape(title)}" style="margin:2px;min-width:128px" src="data:image/png;base64,{data}">'
