"""Images laid on images and side by side, alpha channels, margins."""

from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, Image, Mask, Range, node

from ..devices.environment import numerics
from ..limits import check_pixels
from ..resampling import resize
from .batch import repeat_to, with_channels
from .images import ImageAndMask
from .masks import batch_of
from .transforms import scaled
from .widgets import Place, Place8

if TYPE_CHECKING:
    from torch import Tensor

_COLORS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}


def composite(
    onto: "Tensor", patch: "Tensor", x: int, y: int, mask: Any = None, resize_patch: bool = False
) -> "Tensor":
    """Lay `patch` [B,C,h,w] on `onto` [B,C,H,W] with its corner at (x, y), as far as the mask (1 without one) says.

    Batches: the patch and its mask are repeated from the start. The mask is resampled to the patch.
    """
    if resize_patch:
        patch = resize(patch, onto.shape[-1], onto.shape[-2], "bilinear")
    patch = repeat_to(patch, len(onto))
    out = onto.clone()
    part = out[..., y : y + patch.shape[-2], x : x + patch.shape[-1]]
    visible = patch[..., : part.shape[-2], : part.shape[-1]]
    if mask is None:
        part.copy_(visible)
        return out
    weight = resize(batch_of(mask)[:, None], patch.shape[-1], patch.shape[-2], "bilinear")
    weight = repeat_to(weight, len(onto))[..., : part.shape[-2], : part.shape[-1]]
    part.copy_(weight * visible + (1.0 - weight) * part)
    return out


@node("ImageCompositeMasked", category="image", version="2", environment=numerics)
def image_composite_masked(
    destination: Image,
    source: Image,
    x: Place = 0,
    y: Place = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Image:
    """Lay images on others at a place, where the mask is 1; what sticks out is cut off."""
    patch = with_channels(source, destination.shape[-1])
    return composite(destination.movedim(-1, 1), patch.movedim(-1, 1), x, y, mask, resize_source).movedim(1, -1)


@node(
    "JoinImageWithAlpha",
    category="mask/compositing",
    display_name="Join Image with Alpha",
    version="1",
    environment=numerics,
)
def join_image_with_alpha(image: Image, alpha: Mask) -> Image:
    """Give images an alpha channel: transparent where the mask is 1."""
    import torch

    count = max(len(image), len(batch_of(alpha)))
    clear = resize(batch_of(alpha)[:, None], image.shape[2], image.shape[1], "bilinear").movedim(1, -1)
    return torch.cat([repeat_to(image[..., :3], count), 1.0 - repeat_to(clear, count)], -1)


@node("SplitImageWithAlpha", category="mask/compositing", display_name="Split Image with Alpha", version="1")
def split_image_with_alpha(image: Image) -> ImageAndMask:
    """Images without their alpha channel, and a mask that is 1 where they are transparent (0 without alpha)."""
    return ImageAndMask(image[..., :3].clone(), 1.0 - with_channels(image, 4)[..., 3])


@node("ImageStitch", category="image/transform", display_name="Image Stitch", version="2", environment=numerics)
def image_stitch(
    image1: Image,
    direction: Annotated[str, Choice(("right", "down", "left", "up"))] = "right",
    match_image_size: bool = True,
    spacing_width: Annotated[int, Range(0, 1024, 2)] = 0,
    spacing_color: Annotated[str, Choice(tuple(_COLORS))] = "white",
    image2: Image | None = None,
) -> Image:
    """Put an image beside another, with a strip of a colour between them.

    `match_image_size` scales the second one to the side where they meet; without it the smaller one gets a black
    margin. In batches of different length the shorter one's last image is repeated.
    """
    import torch

    if image2 is None:
        return image1
    beside = direction in ("right", "left")
    along, across = (2, 1) if beside else (1, 2)
    if match_image_size:
        factor = image1.shape[across] / image2.shape[across]
        width, height = round(image2.shape[2] * factor), round(image2.shape[1] * factor)
        image2 = scaled(image2, *((width, image1.shape[1]) if beside else (image1.shape[2], height)), "lanczos")
    count, side = max(len(image1), len(image2)), max(image1.shape[across], image2.shape[across])
    channels = max(image1.shape[-1], image2.shape[-1])
    sides = [image1.shape[along] + image2.shape[along] + spacing_width, side]
    check_pixels(sides[0], sides[1], count, channels)
    first, second = (
        _centred(_longer(with_channels(image, channels), count), side, across) for image in (image1, image2)
    )
    pieces = [first, second] if direction in ("right", "down") else [second, first]
    strip = spacing_width + spacing_width % 2
    if strip:
        color = torch.tensor((*_COLORS[spacing_color], 1.0)[:channels])
        shape = [count, side, side, channels]
        shape[along] = strip
        pieces.insert(1, color.expand(shape))
    return torch.cat(pieces, along)


def _longer(image: "Tensor", count: int) -> "Tensor":
    import torch

    return torch.cat([image, image[-1:].repeat(count - len(image), 1, 1, 1)])


def _centred(image: "Tensor", side: int, axis: int) -> "Tensor":
    """A black margin on both ends of an axis of [B,H,W,C]."""
    from torch.nn import functional as F

    missing = side - image.shape[axis]
    ends = (missing // 2, missing - missing // 2)
    return F.pad(image, (0, 0, 0, 0, *ends) if axis == 1 else (0, 0, *ends))


@node("ImagePadForOutpaint", category="image", display_name="Pad Image for Outpainting", version="1")
def image_pad_for_outpaint(
    image: Image,
    left: Place8 = 0,
    top: Place8 = 0,
    right: Place8 = 0,
    bottom: Place8 = 0,
    feathering: Place = 40,
) -> ImageAndMask:
    """Grey margins around images, and a mask of what is to be drawn: 1 in the margins, falling to 0 inside.

    `d` pixels away from a margin the mask is (1 - d / feathering)^2. Images smaller than twice that are not
    feathered.
    """
    import torch

    count, height, width, channels = image.shape
    check_pixels(left + width + right, top + height + bottom, count, channels)
    frame = torch.full((count, top + height + bottom, left + width + right, channels), 0.5, dtype=image.dtype)
    frame[:, top : top + height, left : left + width] = image
    mask = torch.ones(1, *frame.shape[1:3])
    inside = torch.zeros(height, width)
    if 0 < 2 * feathering < min(height, width):
        rows = _distance(height, top > 0, bottom > 0)[:, None]
        columns = _distance(width, left > 0, right > 0)[None]
        inside = (1.0 - torch.minimum(rows, columns) / feathering).clamp(min=0.0) ** 2
    mask[:, top : top + height, left : left + width] = inside
    return ImageAndMask(frame, mask)


def _distance(size: int, before: bool, after: bool) -> "Tensor":
    """How far each pixel of a side is from the ends that count."""
    import torch

    place = torch.arange(size, dtype=torch.float32)
    far = torch.full((size,), float(size))
    return torch.minimum(place if before else far, size - place if after else far)
