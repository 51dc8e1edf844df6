"""Images and boxes: cut by them, with them drawn over."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Choice, FreeLiteral, GraphFlowError, Image, Problem, Range, Settings, Wire, node

from ..devices.environment import lettering, numerics
from ..limits import check_items, check_pixels
from ..resampling import resize
from .batch import repeat_to
from .bounding_boxes import Boxes

if TYPE_CHECKING:
    from torch import Tensor

_Region = Annotated[Any, Wire("BOUNDING_BOX"), FreeLiteral()]
_Size = Annotated[int, Range(64, 4096)]
_REGION: Mapping[str, int] = {"x": 0, "y": 0, "width": 512, "height": 512}
_CANVAS = 640
"""The least width and height of an empty image that boxes are drawn on."""
_LARGEST = 1_000_000.0


class Box(NamedTuple):
    """In pixels; a label of what is in it, and how sure a detector was."""

    x: float
    y: float
    width: float
    height: float
    label: str = ""
    score: float | None = None


class BoxesOverImage(NamedTuple):
    out_image: Image


def check_region(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[Any]:
    """Raises a Problem where the rectangle is not one."""
    if "crop_region" in literals:
        _one_region(literals["crop_region"])
    yield from ()


@node("ImageCropV2", category="image/transform", display_name="Crop Image", version="1", check=check_region)
def image_crop_v2(image: Image, crop_region: _Region = _REGION) -> Image:
    """A rectangle `{x, y, width, height}` in pixels of images, as far as they reach; at least one pixel of them."""
    region = _one_region(crop_region)
    left, top = min(round(region.x), image.shape[2] - 1), min(round(region.y), image.shape[1] - 1)
    width, height = max(1, round(region.width)), max(1, round(region.height))
    return image[:, top : top + height, left : left + width].clone()


@node(
    "CropByBBoxes", category="image/transform", display_name="Crop by Bounding Boxes", version="1", environment=numerics
)
def crop_by_bboxes(
    image: Image,
    bboxes: Boxes,
    output_width: _Size = 512,
    output_height: _Size = 512,
    padding: Annotated[int, Range(0, 1024)] = 0,
    keep_aspect: Annotated[str, Choice(("stretch", "pad"))] = "stretch",
) -> Image:
    """Of each image the smallest rectangle around all its boxes, and `padding` pixels around them, in one size.

    One list of boxes is for all images, or there is one for each; a single image is repeated. `stretch` resamples
    (bilinear) to the size, `pad` keeps the proportions in the middle of black. An image without a box that reaches
    into it is cut at its top, in the middle, to the proportions of the size.
    """
    import torch

    images, sets = _paired(image[..., :3], read_boxes(bboxes))
    check_pixels(output_width, output_height, len(images))
    return torch.cat(
        [
            _fitted(
                _cut(picture, boxes, padding, output_width / output_height), output_width, output_height, keep_aspect
            )
            for picture, boxes in zip(images, sets, strict=True)
        ]
    )


@node("DrawBBoxes", category="image", display_name="Draw Bounding Boxes", version="1", environment=lettering)
def draw_bboxes(bboxes: Boxes, image: Image | None = None) -> BoxesOverImage:
    """Images with frames around boxes, and above each its label and score (`{x, y, width, height, label, score}`).

    One list of boxes is for all images, or there is one for each; a single image is repeated. Every label has a colour
    of its own. Without images the boxes stand on black, of 640 x 640 pixels or more.
    """
    import torch

    sets = read_boxes(bboxes)
    if image is None:
        boxes = [box for one in sets for box in one]
        width = max([_CANVAS, *(math.ceil(box.x + box.width) for box in boxes)])
        height = max([_CANVAS, *(math.ceil(box.y + box.height) for box in boxes)])
        check_pixels(width, height, len(sets), input="bboxes")
        image = torch.zeros(len(sets), height, width, 3)
    images, sets = _paired(image[..., :3], sets)
    check_pixels(images.shape[2], images.shape[1], len(images))
    return BoxesOverImage(torch.stack([_drawn(one, boxes) for one, boxes in zip(images, sets, strict=True)]))


def read_boxes(given: Any) -> list[list[Box]]:
    """One list of boxes for all images, or one for each: of a box, a list of boxes, or a list of such lists.

    Raises a Problem where they are neither.
    """
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise _not_boxes(given)
    if all(isinstance(one, Mapping) for one in given):
        given = [given]
    if not all(isinstance(one, list | tuple) for one in given):
        raise _not_boxes(given)
    check_items(sum(map(len, given)), "boxes", "bboxes")
    return [[_box(one, "bboxes") for one in boxes] for boxes in given]


def _box(given: Any, input: str) -> Box:
    sides = [given.get(key) for key in ("x", "y", "width", "height")] if isinstance(given, Mapping) else []
    if not sides or not all(_is_number(side) for side in sides):
        raise _not_boxes(given, input)
    x, y, width, height = (float(side) for side in sides if side is not None)
    if min(width, height) < 0:
        raise _not_boxes(given, input)
    score = given.get("score")
    return Box(x, y, width, height, str(given.get("label") or ""), float(score) if _is_number(score) else None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _not_boxes(given: Any, input: str = "bboxes") -> GraphFlowError:
    message = f"found {str(given)[:80]}, expected boxes {{x, y, width, height}} of finite numbers, no side below 0"
    hint = "link CreateBoundingBoxes or a detector" if input == "bboxes" else "write x, y, width and height in pixels"
    return GraphFlowError([Problem("wrong_boxes", message, input=input, hint=hint)])


def _one_region(given: Any) -> Box:
    """The one box of a region. Raises a Problem where there is none, or more, or where it has no pixels."""
    while isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    if isinstance(given, list | tuple):
        message = f"found {len(given)} boxes, expected one"
        hint = "CropByBBoxes takes any number of boxes"
        raise GraphFlowError([Problem("wrong_boxes", message, input="crop_region", hint=hint)])
    region = _box(given, "crop_region")
    if min(region.x, region.y) < 0 or min(region.width, region.height) < 0.5:
        message = f"found a region of {region.width:g} x {region.height:g} pixels at ({region.x:g}, {region.y:g})"
        hint = "x and y are at least 0, width and height at least 1"
        raise GraphFlowError([Problem("wrong_boxes", message, input="crop_region", hint=hint)])
    return region


def _paired(images: Tensor, sets: list[list[Box]]) -> tuple[Tensor, list[list[Box]]]:
    """As many images as lists of boxes; a single one of either is repeated."""
    count = max(len(images), len(sets))
    if len(images) not in (1, count) or len(sets) not in (1, count):
        message = f"there are {len(sets)} lists of boxes for {len(images)} images"
        hint = "give one list for all images, or one for each"
        raise GraphFlowError([Problem("wrong_number", message, input="bboxes", hint=hint)])
    return repeat_to(images, count), sets if len(sets) == count else sets * count


def _cut(image: Tensor, boxes: Sequence[Box], padding: int, proportion: float) -> Tensor:
    """[H,W,C] -> [1,h,w,C]: what the boxes and the margin around them cover of the image."""
    height, width = image.shape[:2]
    inside = [box for box in boxes if _covers(box.x, box.width, width) and _covers(box.y, box.height, height)]
    if not inside:
        across, down = min(width, max(1, round(height * proportion))), min(height, max(1, round(width / proportion)))
        left = (width - across) // 2
        return image[None, :down, left : left + across]
    left = max(0, math.floor(min(box.x for box in inside)) - padding)
    top = max(0, math.floor(min(box.y for box in inside)) - padding)
    right = min(width, math.ceil(max(box.x + box.width for box in inside)) + padding)
    bottom = min(height, math.ceil(max(box.y + box.height for box in inside)) + padding)
    return image[None, top:bottom, left:right]


def _covers(start: float, length: float, side: int) -> bool:
    """Whether a part of the box lies within the image along one side."""
    return length > 0 and start < side and start + length > 0


def _fitted(image: Tensor, width: int, height: int, keep_aspect: str) -> Tensor:
    """[1,h,w,C] -> [1,height,width,C], stretched or in the middle of black."""
    x = image.movedim(-1, 1)
    if keep_aspect == "stretch":
        return resize(x, width, height, "bilinear").movedim(1, -1)
    factor = min(width / image.shape[2], height / image.shape[1])
    across, down = max(1, round(image.shape[2] * factor)), max(1, round(image.shape[1] * factor))
    found = image.new_zeros(1, height, width, image.shape[3])
    left, top = (width - across) // 2, (height - down) // 2
    found[:, top : top + down, left : left + across] = resize(x, across, down, "bilinear").movedim(1, -1)
    return found


def _drawn(image: Tensor, boxes: Sequence[Box]) -> Tensor:
    """[H,W,3] with frames and labels. Only what they cover changes."""
    import numpy as np
    import torch
    from PIL import Image as Picture
    from PIL import ImageDraw

    from ..lettering import font_for, written

    height, width = image.shape[:2]
    shape = (width, height)
    layer, cover = Picture.new("RGB", shape), Picture.new("L", shape)
    colours, covers = ImageDraw.Draw(layer), ImageDraw.Draw(cover)
    line, letters = max(1, min(shape) // 256), max(10, min(shape) // 28)
    for box in boxes:
        colour = _colour(box.label)
        corners = (box.x, box.y, box.x + max(1.0, box.width) - 1, box.y + max(1.0, box.height) - 1)
        colours.rectangle(corners, outline=colour, width=line)
        covers.rectangle(corners, outline=255, width=line)
        parts = [written(box.label).replace("\n", " ")[:80], "" if box.score is None else f"{box.score:.2f}"]
        text = " ".join(part for part in parts if part)
        if not text:
            continue
        font = font_for(text, letters)
        _, _, right, bottom = font.getbbox(text)
        x = min(max(0.0, box.x), max(0.0, width - right - 2 * line))
        y = max(0.0, box.y - bottom - 2 * line)
        panel = (x, y, x + right + 2 * line, y + bottom + 2 * line)
        colours.rectangle(panel, fill=colour)
        covers.rectangle(panel, fill=255)
        colours.text((x + line, y + line), text, fill=(0, 0, 0), font=font)
    drawn = torch.from_numpy(np.array(layer, dtype=np.float32) / 255.0)
    where = torch.from_numpy(np.array(cover, dtype=np.float32) / 255.0)[..., None]
    return torch.where(where > 0, drawn, image.cpu())


def _colour(label: str) -> tuple[int, int, int]:
    """A bright colour of the label, the same in every run; yellow for none."""
    if not label:
        return (255, 196, 0)
    # The golden ratio sends texts that are alike to colours that are far apart.
    hue = sum(place * ord(sign) for place, sign in enumerate(label, 1)) * 0.618033988749895 % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.6, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
