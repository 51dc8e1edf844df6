"""Boxes over an image and what stands in them: for models that are asked with a layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from graphflow import FreeLiteral, GraphFlowError, Image, Multiline, Problem, Range, Wire, node

from ..limits import check_pixels
from .widgets import MAX_SIDE

Boxes = Annotated[Any, Wire("BOUNDING_BOX")]
Elements = Annotated[Any, Wire("ARRAY")]
_Given = Annotated[Any, Wire("BOUNDING_BOX,ARRAY,STRING"), FreeLiteral()]
_State = Annotated[Any, Wire("BOUNDING_BOXES"), FreeLiteral()]
_Side = Annotated[int, Range(64, MAX_SIDE, 16)]
UNITS = 1000
"""Elements state their places in thousandths of the image."""
COLOURS = 5
"""At most so many colours of an element are stated."""


class BoxesDrawn(NamedTuple):
    preview: Image
    bboxes: Boxes
    elements: Elements


@node("CreateBoundingBoxes", category="utils", display_name="Create Bounding Boxes", version="1")
def create_bounding_boxes(
    background: Image | None = None,
    bboxes: _Given | None = None,
    width: _Side = 1024,
    height: _Side = 1024,
    editor_state: _State | None = None,
    last_incoming: _State | None = None,
) -> BoxesDrawn:
    """Boxes in pixels and their descriptions: those drawn in the editor, or those of `bboxes` if they have changed.

    `bboxes` may be boxes, elements, or JSON of either. An element is `{type, bbox, desc}` with `bbox` = [top, left,
    bottom, right] in thousandths of the image, `text` where the type is text, and up to five colours.
    """
    given = _read(bboxes) if bboxes is not None else None
    if given is None or given == _read(last_incoming if last_incoming is not None else []):
        given = _read(editor_state or [])
    drawn = list(_boxes(given, width, height))
    preview = _preview(background, drawn, width, height)
    boxes = [{key: box[key] for key in ("x", "y", "width", "height")} for box in drawn]
    return BoxesDrawn(preview, [boxes], [_element(box, width, height) for box in drawn])


@node("Flux3LayoutPrompt", category="advanced/conditioning/flux", display_name="Flux 3 Layout Prompt", version="1")
def flux3_layout_prompt(prompt: Annotated[str, Multiline(words=True)], element: Elements | None = None) -> str:
    """A prompt for FLUX.3 with a layout behind it: a JSON list of the elements of CreateBoundingBoxes."""
    rows = [
        {"id": f"obj_{number}", "bbox": one["bbox"], "desc": one.get("desc") or one.get("text", "")}
        for number, one in enumerate(_read(element or []), 1)
    ]
    return f"{prompt}\n{json.dumps(rows, ensure_ascii=False)}" if rows else prompt


def _read(given: Any) -> list[Mapping[str, Any]]:
    """Boxes or elements in one flat list. Raises a Problem where they are neither."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else []
        except ValueError as error:
            raise _wrong(f"the text is no JSON: {error}") from None
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, Sequence):
        raise _wrong(f"got {type(given).__name__}")
    found = []
    for one in given:
        for box in one if isinstance(one, list | tuple) else [one]:
            if not isinstance(box, Mapping) or not ({"x", "y", "width", "height"} <= box.keys() or "bbox" in box):
                raise _wrong(f"got {json.dumps(box, default=str)[:80]}")
            found.append(box)
    return found


def _wrong(what: str) -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "wrong_boxes",
                f"expected boxes ({{x, y, width, height}}) or elements ({{bbox, desc}}), {what}",
                input="bboxes",
                hint="link CreateBoundingBoxes, or write a JSON list of them",
            )
        ]
    )


def _boxes(given: Sequence[Mapping[str, Any]], width: int, height: int) -> Iterator[dict[str, Any]]:
    """Boxes in pixels with type, text, desc and palette, from boxes of the editor or from elements."""
    for one in given:
        noted = one.get("metadata") or one
        box = {
            "type": str(noted.get("type", "obj")),
            "text": str(noted.get("text", "")),
            "desc": str(noted.get("desc", "")),
            "palette": list(noted.get("palette") or noted.get("color_palette") or []),
        }
        if "bbox" in one:
            top, left, bottom, right = (float(side) / UNITS for side in one["bbox"])
            sides = {
                "x": round(left * width),
                "y": round(top * height),
                "width": round((right - left) * width),
                "height": round((bottom - top) * height),
            }
        else:
            sides = {key: one[key] for key in ("x", "y", "width", "height")}
        yield {**sides, **box}


def _element(box: Mapping[str, Any], width: int, height: int) -> dict[str, Any]:
    edges = (
        box["y"] / height,
        box["x"] / width,
        (box["y"] + box["height"]) / height,
        (box["x"] + box["width"]) / width,
    )
    found: dict[str, Any] = {
        "type": box["type"],
        "bbox": [min(UNITS, max(0, round(UNITS * edge))) for edge in edges],
    }
    if box["type"] == "text":
        found["text"] = box["text"]
    found["desc"] = box["desc"]
    if box["palette"]:
        found["color_palette"] = box["palette"][:COLOURS]
    return found


def _preview(background: Any, boxes: Sequence[Mapping[str, Any]], width: int, height: int) -> Any:
    """[1, H, W, 3]: the background, brought to the size, with frames and descriptions."""
    import numpy as np
    import torch
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    check_pixels(width, height, 1)
    if background is None:
        picture = Picture.new("RGB", (width, height), (40, 42, 48))
    else:
        pixels = (background[0, ..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()
        picture = Picture.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Picture.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    line, letters = max(2, width // 256), ImageFont.load_default(max(12, height // 40))
    for box in boxes:
        left, top = float(box["x"]), float(box["y"])
        right, bottom = left + max(1.0, float(box["width"])), top + max(1.0, float(box["height"]))
        draw.rectangle((left, top, right, bottom), outline=(255, 196, 0), width=line)
        draw.text((left + 2 * line, top + line), box["desc"] or box["text"], fill=(255, 255, 255), font=letters)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)[None]
