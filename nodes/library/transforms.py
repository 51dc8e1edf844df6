"""Images in another size, cut, turned; and sizes as numbers."""

import math
from typing import Annotated, NamedTuple

from graphflow import Choice, Image, Range, node

from ..devices.environment import numerics
from ..limits import check_pixels
from ..resampling import CROPS, METHODS, missing_side, resize
from .widgets import Place, Side

MEGAPIXEL = 1024 * 1024
FLIPS = ("x-axis: vertically", "y-axis: horizontally")
ROTATIONS = ("none", "90 degrees", "180 degrees", "270 degrees")
_Method = Annotated[str, Choice((*METHODS, "lanczos"))]
_ASPECTS = (
    "1:1 (Square)",
    "3:2 (Photo)",
    "4:3 (Standard)",
    "16:9 (Widescreen)",
    "21:9 (Ultrawide)",
    "2:3 (Portrait Photo)",
    "3:4 (Portrait Standard)",
    "9:16 (Portrait Widescreen)",
)


class Size(NamedTuple):
    width: int
    height: int
    batch_size: int


class Resolution(NamedTuple):
    width: int
    height: int


@node("GetImageSize", category="image", display_name="Get Image Size", version="1")
def get_image_size(image: Image) -> Size:
    """Width and height of images in pixels, and how many there are."""
    return Size(image.shape[2], image.shape[1], image.shape[0])


@node("ResolutionSelector", category="utils", display_name="Resolution Selector", version="1")
def resolution_selector(
    aspect_ratio: Annotated[str, Choice(_ASPECTS)],
    megapixels: Annotated[float, Range(0.0, 100000.0, 1e-6)] = 1.0,
    multiple: Annotated[int, Range(0, 100000)] = 8,
) -> Resolution:
    """A width and a height of a proportion, about so many megapixels (of 1024 x 1024) and each a multiple of a
    number."""
    wide, high = (int(part) for part in aspect_ratio.split(" ")[0].split(":"))
    unit = math.sqrt(megapixels * MEGAPIXEL / (wide * high))
    step = max(1, multiple)
    return Resolution(*(max(step, round(side * unit / step) * step) for side in (wide, high)))


@node("ImageScale", category="image/upscaling", display_name="Upscale Image", version="2", environment=numerics)
def image_scale(
    image: Image,
    upscale_method: _Method,
    width: Place = 512,
    height: Place = 512,
    crop: Annotated[str, Choice(CROPS)] = "disabled",
) -> Image:
    """Resample images to a size; a side of 0 keeps the proportions, both 0 leave them as they are."""
    if width == 0 and height == 0:
        return image
    width, height = missing_side(width, height, image.shape[2], image.shape[1])
    return scaled(image, width, height, upscale_method, crop)


@node("ImageScaleBy", category="image/upscaling", display_name="Upscale Image By", version="2", environment=numerics)
def image_scale_by(
    image: Image, upscale_method: _Method, scale_by: Annotated[float, Range(0.01, 8.0, 0.01)] = 1.0
) -> Image:
    """Resample images by a factor."""
    return scaled(image, round(image.shape[2] * scale_by), round(image.shape[1] * scale_by), upscale_method)


@node("ImageScaleToTotalPixels", category="image/upscaling", version="3", environment=numerics)
def image_scale_to_total_pixels(
    image: Image,
    upscale_method: _Method,
    megapixels: Annotated[float, Range(0.01, 16.0, 0.01)] = 1.0,
    resolution_steps: Annotated[int, Range(1, 256)] = 1,
) -> Image:
    """Resample images to about so many megapixels (of 1024 x 1024), proportions kept.

    Width and height are multiples of `resolution_steps`, which many models want to be 8, 16 or 32.
    """
    factor = math.sqrt(megapixels * MEGAPIXEL / (image.shape[2] * image.shape[1]))
    width, height = (
        max(1, round(side * factor / resolution_steps)) * resolution_steps for side in (image.shape[2], image.shape[1])
    )
    return scaled(image, width, height, upscale_method)


@node("ImageScaleToMaxDimension", category="image/upscaling", version="2", environment=numerics)
def image_scale_to_max_dimension(
    image: Image,
    upscale_method: Annotated[str, Choice(("area", "lanczos", "bilinear", "nearest-exact", "bicubic"))],
    largest_size: Place = 512,
) -> Image:
    """Resample images so that the longer side has a length, proportions kept."""
    height, width = image.shape[1:3]
    factor = largest_size / max(height, width)
    return scaled(image, round(width * factor), round(height * factor), upscale_method)


def scaled(image: Image, width: int, height: int, method: str, crop: str = "disabled") -> Image:
    """[B,H,W,C] in another size, at least 1 x 1."""
    width, height = max(1, width), max(1, height)
    return resize(image.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


@node("ImageCrop", category="image/transform", display_name="Image Crop", version="1")
def image_crop(image: Image, width: Side = 512, height: Side = 512, x: Place = 0, y: Place = 0) -> Image:
    """A rectangle of images, as far as they reach; at least one pixel of them."""
    x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return image[:, y : y + height, x : x + width].clone()


@node("CenterCropImages", category="image/transform", display_name="Crop Image (Center)", version="1")
def center_crop_images(
    image: Image, width: Annotated[int, Range(1, 8192)] = 512, height: Annotated[int, Range(1, 8192)] = 512
) -> Image:
    """The middle of images in a size, as far as they reach; an odd rest is cut off at the right and at the bottom."""
    left, top = max(0, image.shape[2] - width) // 2, max(0, image.shape[1] - height) // 2
    return image[:, top : top + height, left : left + width].clone()


@node("ImageFlip", category="image/transform", version="1")
def image_flip(image: Image, flip_method: Annotated[str, Choice(FLIPS)]) -> Image:
    """Images mirrored: top to bottom, or left to right."""
    return image.flip(1 if flip_method == FLIPS[0] else 2)


@node("ImageRotate", category="image/transform", version="1")
def image_rotate(image: Image, rotation: Annotated[str, Choice(ROTATIONS)]) -> Image:
    """Images turned clockwise."""
    return image.rot90(ROTATIONS.index(rotation), dims=(2, 1)).contiguous()


@node("ResizeAndPadImage", category="image/transform", version="2", environment=numerics)
def resize_and_pad_image(
    image: Image,
    *,
    target_width: Side = 512,
    target_height: Side = 512,
    padding_color: Annotated[str, Choice(("white", "black"))],
    interpolation: Annotated[str, Choice(("area", "bicubic", "nearest-exact", "bilinear", "lanczos"))],
) -> Image:
    """Images as large as they fit into a frame, proportions kept, in the middle; the rest of the frame is one
    colour."""
    import torch

    check_pixels(target_width, target_height, len(image), image.shape[3])
    height, width = image.shape[1:3]
    factor = min(target_width / width, target_height / height)
    small = scaled(image, int(width * factor), int(height * factor), interpolation)
    fill = 1.0 if padding_color == "white" else 0.0
    frame = torch.full((len(image), target_height, target_width, image.shape[-1]), fill, dtype=image.dtype)
    top, left = (target_height - small.shape[1]) // 2, (target_width - small.shape[2]) // 2
    frame[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return frame
