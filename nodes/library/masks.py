"""Masks: made, combined, shaped. MASK is float32 [B,H,W] in 0..1."""

from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, GraphFlowError, Image, Mask, Problem, Range, Settings, node

from ..devices.environment import decoding
from ..limits import check_pixels
from .batch import repeat_to
from .images import InputImage, input_frames, input_image_digest
from .widgets import MAX_SIDE, Color, Place, Side

if TYPE_CHECKING:
    from torch import Tensor

_CHANNELS = ("red", "green", "blue", "alpha")
_Unit = Annotated[float, Range(0.0, 1.0, 0.01)]


@node("SolidMask", category="mask", version="1")
def solid_mask(value: _Unit = 1.0, width: Side = 512, height: Side = 512) -> Mask:
    """A mask of one value."""
    import torch

    check_pixels(width, height, channels=1)
    return torch.full((1, height, width), value)


@node("InvertMask", category="mask", version="1")
def invert_mask(mask: Mask) -> Mask:
    """1 - mask."""
    return 1.0 - mask


@node("MaskToImage", category="mask", display_name="Convert Mask to Image", version="1")
def mask_to_image(mask: Mask) -> Image:
    """A mask as a grey image."""
    return batch_of(mask)[..., None].repeat(1, 1, 1, 3)


@node("ImageToMask", category="mask", display_name="Convert Image to Mask", version="1")
def image_to_mask(image: Image, channel: Annotated[str, Choice(_CHANNELS)]) -> Mask:
    """One channel of an image as a mask."""
    index = _CHANNELS.index(channel)
    if index >= image.shape[-1]:
        raise GraphFlowError(
            [
                Problem(
                    "no_channel",
                    f"the image has {image.shape[-1]} channels, none of them {channel}",
                    input="channel",
                    hint="an image has an alpha channel only after JoinImageWithAlpha or a node like it",
                )
            ]
        )
    return image[..., index].clone()


@node("ImageColorToMask", category="mask", version="1")
def image_color_to_mask(image: Image, color: Color = 0) -> Mask:
    """1 where the image has a colour (0xRRGGBB as a number), to the nearest of 256 steps, 0 elsewhere."""
    import torch

    steps = (image[..., :3].clamp(0, 1) * 255).round().to(torch.int64)
    found = (steps[..., 0] << 16) + (steps[..., 1] << 8) + steps[..., 2]
    return (found == color).float()


@node("MaskComposite", category="mask", version="1")
def mask_composite(
    destination: Mask,
    source: Mask,
    *,
    x: Place = 0,
    y: Place = 0,
    operation: Annotated[str, Choice(("multiply", "add", "subtract", "and", "or", "xor"))],
) -> Mask:
    """Lay a mask on another at a place and combine them there; `and`, `or` and `xor` take what is above 0.5 as 1.

    What sticks out is cut off.
    """
    out, patch = batch_of(destination).clone(), batch_of(source)
    part = out[:, y : y + patch.shape[1], x : x + patch.shape[2]]
    over = repeat_to(patch, len(out))[:, : part.shape[1], : part.shape[2]]
    a, b = part.round().bool(), over.round().bool()
    match operation:
        case "multiply":
            combined = part * over
        case "add":
            combined = part + over
        case "subtract":
            combined = part - over
        case "and":
            combined = (a & b).float()
        case "or":
            combined = (a | b).float()
        case _:
            combined = (a ^ b).float()
    part.copy_(combined)
    return out.clamp(0.0, 1.0)


@node("FeatherMask", category="mask", version="1")
def feather_mask(mask: Mask, left: Place = 0, top: Place = 0, right: Place = 0, bottom: Place = 0) -> Mask:
    """Let a mask fade to its edges, linearly over so many pixels from each."""
    import torch

    out = batch_of(mask)
    height, width = out.shape[1:]

    def ramp(size: int, start: int, end: int) -> "Tensor":
        """Factors along a side: k/n for the k-th of n pixels from an edge."""
        place = torch.arange(1, size + 1, dtype=torch.float32)
        factors = torch.ones(size)
        for count, distance in ((min(start, size), place), (min(end, size), place.flip(0))):
            if count:
                factors = factors * (distance / count).clamp(max=1.0)
        return factors

    return out * ramp(width, left, right) * ramp(height, top, bottom)[:, None]


@node("ThresholdMask", category="mask", version="1")
def threshold_mask(mask: Mask, value: _Unit = 0.5) -> Mask:
    """1 where the mask is above a value, 0 elsewhere."""
    return (mask > value).float()


@node("GrowMask", category="mask", version="1")
def grow_mask(
    mask: Mask, expand: Annotated[int, Range(-MAX_SIDE, MAX_SIDE, 1)] = 0, tapered_corners: bool = True
) -> Mask:
    """Let a mask grow by so many pixels, or shrink if negative: each pixel takes the largest (smallest) value around
    it.

    Around it is a diamond with `tapered_corners`, a square without.
    """
    out = batch_of(mask)
    sign = 1.0 if expand >= 0 else -1.0
    steps = min(abs(expand), out.shape[1] + out.shape[2])
    return sign * _dilate(sign * out, steps, tapered_corners)


def _dilate(x: "Tensor", steps: int, diamond: bool) -> "Tensor":
    import torch
    from torch.nn import functional as F

    if steps == 0:
        return x.clone()
    if diamond:
        for _ in range(steps):
            x = torch.maximum(F.max_pool2d(x, (1, 3), 1, (0, 1)), F.max_pool2d(x, (3, 1), 1, (1, 0)))
        return x
    for _ in range(steps):
        x = F.max_pool2d(x, 3, 1, 1)
    return x


@node("CropMask", category="mask", version="1")
def crop_mask(mask: Mask, x: Place = 0, y: Place = 0, width: Side = 512, height: Side = 512) -> Mask:
    """A rectangle of a mask, as far as the mask reaches; at least one pixel of it."""
    out = batch_of(mask)
    x, y = min(x, out.shape[2] - 1), min(y, out.shape[1] - 1)
    return out[:, y : y + height, x : x + width].clone()


@node(
    "LoadImageMask",
    category="mask",
    display_name="Load Image (as Mask)",
    version="2",
    outside=input_image_digest,
    environment=decoding,
)
def load_image_mask(
    settings: Settings,
    image: InputImage,
    channel: Annotated[str, Choice(("alpha", "red", "green", "blue"))],
) -> Mask:
    """Read a channel of an image of the input folder as a mask [1,H,W]; of alpha, what is transparent is 1.

    An image without an alpha channel is nowhere transparent. Of an animation, the first frame is taken.
    """
    import torch

    (frame,) = input_frames(settings, image, most=1)
    if channel != "alpha":
        return torch.from_numpy(frame.colours[None, ..., _CHANNELS.index(channel)].copy())
    if frame.opacity is None:
        return torch.zeros(1, *frame.colours.shape[:2])
    return 1.0 - torch.from_numpy(frame.opacity)[None]


def batch_of(mask: Any) -> "Tensor":
    """A mask as [B,H,W], also where it came as [H,W] or [B,1,H,W]."""
    batch: Tensor = mask.reshape(-1, *mask.shape[-2:])
    return batch
