"""Images beside each other with labels, compared, and coloured by a map; lists of numbers to make them by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, NamedTuple

from graphflow import Each, Every, GraphFlowError, Help, Image, Mask, Multiline, Problem, Range, node

from ..devices.environment import decoding, numerics
from ..limits import check_items, check_pixels
from ..resampling import resize
from .batch import repeat_to
from .masks import batch_of

if TYPE_CHECKING:
    from torch import Tensor

_Lines = Annotated[str, Multiline(), Help("one a line; several lists follow one another")]
_Titles = Annotated[str, Multiline(), Help("the titles of the rows, one a line")]
_Columns = Annotated[int, Range(0, 256), Help("0: as many as make the grid about square")]
_Cell = Annotated[int, Range(0, 4096), Help("width of a cell in pixels; 0: that of the first image")]


class NumberList(NamedTuple):
    floats: Each[float]
    ints: Each[int]
    labels: Each[str]


class ImageDifference(NamedTuple):
    difference: Image
    labels: str


@node("GraphFlowNumbers", category="utils/primitive", display_name="List of Numbers", version="1")
def numbers(
    values: Annotated[str, Help("numbers with commas or spaces between them")] = "1, 2, 4",
    label: Annotated[str, Help("the text of each label; {} stands for the number")] = "{}",
) -> NumberList:
    """A list of numbers: what follows runs once for each. `ints` are rounded; `labels` are for an image grid."""
    found = numbers_in(values, "values")
    return NumberList(found, [round(number) for number in found], [label.replace("{}", f"{one:g}") for one in found])


def numbers_in(text: str, input: str) -> list[float]:
    """The numbers of a text, at least one, all finite; a Problem at `input` names what is not one."""
    found = []
    for word in text.replace(",", " ").split():
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            message = f"{word[:50]!r} is not a number"
            raise GraphFlowError([Problem("not_a_number", message, input=input, hint="write them as 1, 2.5, 4")])
        found.append(number)
    if not found:
        hint = "write them as 1, 2.5, 4"
        raise GraphFlowError([Problem("no_numbers", "there are no numbers", input=input, hint=hint)])
    check_items(len(found), "numbers", input)
    return found


@node("GraphFlowImageGrid", category="image", display_name="Image Grid with Labels", version="1", environment=decoding)
def image_grid(
    images: Every[Image],
    columns: Every[_Columns] = 0,  # type: ignore[assignment]
    labels: Every[_Lines] = "",
    rows: Every[_Titles] = "",
    cell: Every[_Cell] = 0,  # type: ignore[assignment]
    gap: Every[Annotated[int, Range(0, 256)]] = 6,  # type: ignore[assignment]
) -> Image:
    """All images that arrive as one, in rows on white, each with its label below it.

    Labels and titles are shrunk to the width of their cell. Images have the size of the first one's, enlarged without
    smoothing where a cell is larger.
    """
    from ..labels import grid

    width = cell[0] or images[0].shape[2]
    pictures = [picture[..., :3] for batch in images for picture in batch]
    check_items(len(pictures), "images", "images")
    count = columns[0] or math.ceil(math.sqrt(len(pictures)))
    height = max(1, round(images[0].shape[1] * width / images[0].shape[2]))
    check_pixels((width + gap[0]) * (count + 1), (height + 2 * gap[0] + 40) * -(-len(pictures) // count))
    fitted = [_sized(picture, width, height) for picture in pictures]
    texts = [line for text in labels for line in text.splitlines()]
    return grid(fitted, count, texts, "\n".join(rows).splitlines(), gap[0])


@node("ImageGrid", category="image", display_name="Make Image Grid", version="1", environment=decoding)
def plain_grid(
    images: Every[Image],
    columns: Every[Annotated[int, Range(1, 20)]] = 4,  # type: ignore[assignment]
    cell_width: Every[Annotated[int, Range(32, 2048)]] = 256,  # type: ignore[assignment]
    cell_height: Every[Annotated[int, Range(32, 2048)]] = 256,  # type: ignore[assignment]
    padding: Every[Annotated[int, Range(0, 50)]] = 4,  # type: ignore[assignment]
) -> Image:
    """All images that arrive as one, row by row, with `padding` black pixels between them.

    Each is resampled (lanczos) to the size of a cell, whatever its proportions; cells of the last row that are left
    over are black.
    """
    import torch

    pictures = [picture[None, ..., :3] for batch in images for picture in batch]
    check_items(len(pictures), "images", "images")
    width, height, gap = cell_width[0], cell_height[0], padding[0]
    rows = -(-len(pictures) // columns[0])
    sides = (columns[0] * (width + gap) - gap, rows * (height + gap) - gap)
    check_pixels(*sides, input="images")
    sheet = torch.zeros(1, sides[1], sides[0], 3)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns[0])
        top, left = row * (height + gap), column * (width + gap)
        if picture.shape[1:3] != (height, width):
            picture = resize(picture.movedim(-1, 1), width, height, "lanczos").movedim(1, -1)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet


def _sized(picture: Tensor, width: int, height: int) -> Tensor:
    """[H, W, 3] -> [height, width, 3]: whole pixels where it grows, areas where it shrinks."""
    if picture.shape[:2] == (height, width):
        return picture
    method = "nearest-exact" if width >= picture.shape[1] else "area"
    return resize(picture[None].movedim(-1, 1), width, height, method).movedim(1, -1)[0]


@node(
    "GraphFlowImageDifference",
    category="image",
    display_name="Difference of Images (PSNR)",
    version="1",
    environment=numerics,
)
def image_difference(
    images: Image,
    reference: Image,
    gain: Annotated[float, Range(0.1, 100.0, 0.1), Help("a factor that makes small differences visible")] = 4.0,
) -> ImageDifference:
    """The difference |a - b| of images and their reference, times `gain`, and a label for each with its PSNR.

    PSNR = 10 log10(1 / MSE) in decibels, MSE the mean square of a - b over all pixels and colours in 0..1. Equal images
    have no finite one. The reference is repeated; it must have the size of the images.
    """
    a, b = same_size(images, reference)
    found = [psnr(one, other) for one, other in zip(a, b, strict=True)]
    labels = [f"PSNR {one:.1f} dB" if math.isfinite(one) else "equal" for one in found]
    return ImageDifference(((a - b).abs() * gain).clamp(0.0, 1.0), "\n".join(labels))


def psnr(one: Tensor, other: Tensor) -> float:
    """In decibels; infinite for equal images."""
    error = float((one.double() - other.double()).square().mean())
    return math.inf if error == 0 else -10.0 * math.log10(error)


def same_size(images: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both with three colours, the reference repeated to the number of the images; a Problem where sizes differ."""
    if images.shape[1:3] != reference.shape[1:3]:
        sizes = [f"{one.shape[2]} x {one.shape[1]}" for one in (images, reference)]
        message = f"the images have {sizes[0]} pixels, the reference {sizes[1]}"
        hint = "bring them to one size with ImageScale"
        raise GraphFlowError([Problem("wrong_size", message, input="reference", hint=hint)])
    return images[..., :3], repeat_to(reference[..., :3], len(images))


@node("GraphFlowHeatmap", category="image", display_name="Heatmap over Image", version="1", environment=numerics)
def heatmap(
    image: Image,
    maps: Mask,
    strength: Annotated[float, Range(0.0, 1.0, 0.05), Help("how much of the image the colours cover")] = 0.6,
) -> Image:
    """Maps over an image, each from its own least (blue) to its greatest (red); a map without differences is blue.

    One image for each map; images are repeated.
    """
    import torch

    masks = batch_of(maps)
    count = max(len(masks), len(image))
    shown = resize(repeat_to(masks, count)[:, None].float(), image.shape[2], image.shape[1], "bilinear")[:, 0]
    low, high = shown.amin((1, 2), keepdim=True), shown.amax((1, 2), keepdim=True)
    heat = (shown - low) / (high - low).clamp(min=1e-12)
    # Blue, cyan, yellow, red: three ramps.
    colours = torch.stack([1.5 - (4 * heat - centre).abs() for centre in (3.0, 2.0, 1.0)], dim=-1).clamp(0.0, 1.0)
    return (1.0 - strength) * repeat_to(image[..., :3], count) + strength * colours
