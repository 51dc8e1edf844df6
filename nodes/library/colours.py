"""The colours of images: fewer of them, and how often each brightness occurs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Choice, Image, Range, Wire, node

from ..devices.environment import decoding, numerics

if TYPE_CHECKING:
    from torch import Tensor

_Counts = Annotated[Any, Wire("HISTOGRAM")]
_BINS = 256
_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""The weights of red, green and blue in ITU-R BT.709."""


class Histograms(NamedTuple):
    rgb: _Counts
    luminance: _Counts
    red: _Counts
    green: _Counts
    blue: _Counts


@node(
    "ImageQuantize",
    category="image/postprocessing",
    display_name="Quantize Image",
    version="1",
    environment=decoding,
)
def image_quantize(
    image: Image,
    colors: Annotated[int, Range(1, 256, 1)] = 256,
    *,
    dither: Annotated[str, Choice(("none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"))],
) -> Image:
    r"""Images in at most so many colours each, chosen by Pillow (median cut) and without alpha.

    `none` takes the nearest colour, `floyd-steinberg` gives the error of a pixel to its neighbours, and `bayer-n` adds
    a pattern of n x n before it takes the nearest:

    .. math:: x + \frac{1}{colors} \left( \frac{M_n + 1/2}{n^2} - \frac{1}{2} \right), \quad
        M_{2n} = \begin{pmatrix} 4 M_n & 4 M_n + 2 \\ 4 M_n + 3 & 4 M_n + 1 \end{pmatrix}, \quad M_1 = 0
    """
    import torch

    return torch.stack([_quantized(one, colors, dither) for one in image[..., :3].float().cpu()])


def _quantized(image: Tensor, colors: int, dither: str) -> Tensor:
    """[H,W,3] in its own palette."""
    import numpy as np
    import torch
    from PIL import Image as Picture

    picture = Picture.fromarray(_in_bytes(image))
    palette = picture.quantize(colors, dither=Picture.Dither.NONE)
    if dither.startswith("bayer-"):
        height, width = image.shape[:2]
        pattern = _bayer(int(dither.removeprefix("bayer-")))
        side = len(pattern)
        tiled = pattern.repeat(-(-height // side), -(-width // side))[:height, :width, None]
        picture = Picture.fromarray(_in_bytes(image + tiled / colors))
    spread = Picture.Dither.FLOYDSTEINBERG if dither == "floyd-steinberg" else Picture.Dither.NONE
    found = picture.quantize(colors, palette=palette, dither=spread).convert("RGB")
    return torch.from_numpy(np.array(found, dtype=np.float32) / 255.0)


def _in_bytes(image: Tensor) -> Any:
    import torch

    return (image.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()


def _bayer(size: int) -> Tensor:
    """Thresholds [size, size] in -1/2..1/2, whose mean is 0 (Bayer 1973)."""
    import torch

    matrix = torch.zeros(1, 1)
    while len(matrix) < size:
        upper = torch.cat([4 * matrix, 4 * matrix + 2], 1)
        matrix = torch.cat([upper, torch.cat([4 * matrix + 3, 4 * matrix + 1], 1)])
    return (matrix + 0.5) / size**2 - 0.5


@node("ImageHistogram", category="image", display_name="Image Histogram", version="1", environment=numerics)
def image_histogram(image: Image) -> Histograms:
    r"""How many pixels of the first image have each of the 256 values, in lists of 256 counts.

    `rgb` counts the mean of the three colours of each pixel, `luminance` its brightness in ITU-R BT.709:

    .. math:: Y = 0.2126 R + 0.7152 G + 0.0722 B
    """
    import torch

    colours = (image[0, ..., :3].double() * 255.0).clamp(0.0, 255.0)
    weights = torch.tensor(_LUMINANCE, dtype=colours.dtype, device=colours.device)
    channels = [colours.mean(-1), colours @ weights, *colours.unbind(-1)]
    return Histograms(*(torch.bincount(one.round().long().flatten(), minlength=_BINS).tolist() for one in channels))
