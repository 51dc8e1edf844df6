"""All results of a sweep as one HTML file: images with their parameters, filter and sort; it needs no network."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from .axes import VariantList
from .variant import VariantResult, label

__all__ = ["write_page"]


def write_page(
    results: Sequence[VariantResult], variants: VariantList, path: Path, *, title: str, side: int, seconds: float
) -> None:
    """See `Results.html`."""
    names = variants.names
    axes = [
        {"name": names[place], "values": list(dict.fromkeys(label(row[i]) for row in axis.rows))}
        for axis in variants.axes
        for i, place in enumerate(axis.places)
    ]
    folder = path.resolve().parent
    data = {
        "title": title,
        "seconds": round(seconds, 2),
        "axes": axes,
        "items": [
            _item(item, {names[place]: value for place, value in item.values.items()}, folder, side) for item in results
        ],
    }
    # In a script element only "<" could end it early.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    page = files("graphflow.sweeps").joinpath("page.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(title)).replace("{{data}}", text)
    path.write_text(page, encoding="utf-8")


def _item(item: VariantResult, values: dict[str, Any], folder: Path, side: int) -> dict[str, Any]:
    return {
        "variant": item.index,
        "values": {name: label(value) for name, value in values.items()},
        "numbers": {name: value for name, value in values.items() if type(value) in (int, float)},
        "images": [
            {"src": _inline(image.path, side), "file": os.path.relpath(image.path.resolve(), folder)}
            for image in item.images
        ],
        "error": "\n".join(str(problem) for problem in item.problems),
    }


def _inline(path: Path, side: int) -> str:
    """The image as a data URL, smaller if it is longer than `side`."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
