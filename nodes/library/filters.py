"""Images blended, blurred, sharpened, with noise, shaped: each pixel from those around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from graphflow import Choice, Image, Range, Seed, node

from ..devices.environment import numerics
from ..resampling import resize
from .batch import repeat_to, with_channels

if TYPE_CHECKING:
    from torch import Tensor

_Radius = Annotated[int, Range(1, 31, 1)]


@node("ImageBlend", category="image/postprocessing", display_name="Image Blend", version="2", environment=numerics)
def image_blend(
    image1: Image,
    image2: Image,
    blend_factor: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.5,
    *,
    blend_mode: Annotated[str, Choice(("normal", "multiply", "screen", "overlay", "soft_light", "difference"))],
) -> Image:
    """Blend a second image over a first one: 0 is all of the first, 1 all of the blended one.

    The second gets the size and the channels of the first. `difference` is the first less the second, no less than 0.
    """
    other = with_channels(image2, image1.shape[-1])
    if other.shape[1:3] != image1.shape[1:3]:
        other = resize(other.movedim(-1, 1), image1.shape[2], image1.shape[1], "bicubic", "center").movedim(1, -1)
    blended = _blended(image1, repeat_to(other, len(image1)), blend_mode)
    return (image1 * (1.0 - blend_factor) + blended * blend_factor).clamp(0.0, 1.0)


def _blended(a: Tensor, b: Tensor, mode: str) -> Tensor:
    """The separable modes of W3C Compositing and Blending 1, section 10.1 (a below, b above)."""
    import torch

    match mode:
        case "normal":
            return b
        case "multiply":
            return a * b
        case "screen":
            return 1.0 - (1.0 - a) * (1.0 - b)
        case "overlay":
            return torch.where(a <= 0.5, 2.0 * a * b, 1.0 - 2.0 * (1.0 - a) * (1.0 - b))
        case "soft_light":
            light = torch.where(a <= 0.25, ((16.0 * a - 12.0) * a + 4.0) * a, a.clamp(min=0.0).sqrt())
            return torch.where(b <= 0.5, a - (1.0 - 2.0 * b) * a * (1.0 - a), a + (2.0 * b - 1.0) * (light - a))
        case _:
            return a - b


@node("ImageBlur", category="image/postprocessing", display_name="Image Blur", version="1", environment=numerics)
def image_blur(image: Image, blur_radius: _Radius = 1, sigma: Annotated[float, Range(0.1, 10.0, 0.1)] = 1.0) -> Image:
    """Blur images with a bell curve that is cut at a radius in pixels; `sigma` is in units of that radius."""
    return _blurred(image, blur_radius, sigma)


@node("ImageSharpen", category="image/postprocessing", display_name="Image Sharpen", version="1", environment=numerics)
def image_sharpen(
    image: Image,
    sharpen_radius: _Radius = 1,
    sigma: Annotated[float, Range(0.1, 10.0, 0.01)] = 1.0,
    alpha: Annotated[float, Range(0.0, 5.0, 0.01)] = 1.0,
) -> Image:
    """Sharpen images: x + 10 alpha (x - blurred x), with the blur of ImageBlur."""
    return (image + 10.0 * alpha * (image - _blurred(image, sharpen_radius, sigma))).clamp(0.0, 1.0)


def _blurred(image: Tensor, radius: int, sigma: float) -> Tensor:
    """A Gaussian, row by row and column by column; the image is mirrored at its edges."""
    import torch
    from torch.nn import functional as F

    place = torch.linspace(-1.0, 1.0, 2 * radius + 1)
    bell = torch.exp(-(place**2) / (2.0 * sigma**2))
    bell = bell / bell.sum()
    x = image.movedim(-1, 1)
    count, channels, height, width = x.shape
    # Mirroring needs more pixels than the margin; smaller images repeat their edge.
    mode = "reflect" if radius < min(height, width) else "replicate"
    x = F.pad(x, [radius] * 4, mode=mode).reshape(count * channels, 1, height + 2 * radius, width + 2 * radius)
    x = F.conv2d(F.conv2d(x, bell.reshape(1, 1, -1, 1)), bell.reshape(1, 1, 1, -1))
    return x.reshape(count, channels, height, width).movedim(1, -1)


@node("ImageAddNoise", category="image", display_name="Add Noise to Image", version="1", environment=numerics)
def image_add_noise(
    image: Image,
    seed: Annotated[int, Range(0, 2**64 - 1), Seed()] = 0,
    strength: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.5,
) -> Image:
    """Add normal noise of a standard deviation to images."""
    import torch

    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + strength * noise).clamp(0.0, 1.0)


@node("Morphology", category="image/postprocessing", display_name="Image Morphology", version="1", environment=numerics)
def morphology(
    image: Image,
    operation: Annotated[str, Choice(("erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"))],
    kernel_size: Annotated[int, Range(3, 999, 1)] = 3,
) -> Image:
    """Each pixel from the smallest (erode) or largest (dilate) value in a square around it, channel by channel.

    `open` erodes and then dilates, `close` the other way round; `gradient` is dilated less eroded, `top_hat` what
    opening takes away, `bottom_hat` what closing adds.
    """
    x = image.movedim(-1, 1)

    def dilate(y: Tensor) -> Tensor:
        return _largest(y, kernel_size)

    def erode(y: Tensor) -> Tensor:
        return -_largest(-y, kernel_size)

    match operation:
        case "erode":
            found = erode(x)
        case "dilate":
            found = dilate(x)
        case "open":
            found = dilate(erode(x))
        case "close":
            found = erode(dilate(x))
        case "gradient":
            found = dilate(x) - erode(x)
        case "top_hat":
            found = x - dilate(erode(x))
        case _:
            found = erode(dilate(x)) - x
    return found.movedim(1, -1)


def _largest(x: Tensor, size: int) -> Tensor:
    """The largest value in a square of [B,C,H,W], what lies outside left out; rows first, then columns."""
    from torch.nn import functional as F

    before, after = size // 2, (size - 1) // 2
    x = F.max_pool2d(F.pad(x, (before, after, 0, 0), value=float("-inf")), (1, size), 1)
    return F.max_pool2d(F.pad(x, (0, 0, before, after), value=float("-inf")), (size, 1), 1)
