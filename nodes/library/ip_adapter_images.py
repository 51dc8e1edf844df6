"""Images as image encoders of IP-Adapters see them."""

from collections.abc import Sequence
from typing import Annotated, Any

from graphflow import Choice, Help, Image, Range, node

_FILTERS = ("LANCZOS", "BICUBIC", "HAMMING", "BILINEAR", "BOX", "NEAREST")
_CROPS = ("top", "bottom", "left", "right", "center", "pad")
_SIDE = 224


@node("PrepImageForClipVision", category="ipadapter/utils", display_name="Prep Image For ClipVision", version="1")
def prep_image_for_clip_vision(
    image: Image,
    interpolation: Annotated[str, Choice(_FILTERS)] = "LANCZOS",
    crop_position: Annotated[
        str, Choice(_CROPS), Help("which part stays; `pad` keeps all, with black margins")
    ] = "top",
    sharpening: Annotated[float, Range(0.0, 1.0, 0.05)] = 0.0,
) -> Image:
    """Bring images to the square that image encoders see."""
    import numpy as np
    import torch
    from PIL import Image as Pillow

    made = []
    for one in image[..., :3]:
        square = _squared(one, crop_position)
        whole = Pillow.fromarray((square * 255).round().clamp(0, 255).to(torch.uint8).numpy())
        sized = whole.resize((_SIDE, _SIDE), getattr(Pillow.Resampling, interpolation))
        made.append(torch.from_numpy(np.asarray(sized, dtype=np.float32) / 255.0))
    found = torch.stack(made)
    return _sharpened(found, sharpening) if sharpening > 0.0 else found


def _squared(image: Any, position: str) -> Any:
    """[H, W, 3] cut to a square, or with black margins."""
    import torch

    height, width = image.shape[:2]
    if position == "pad":
        side = max(height, width)
        found = torch.zeros(side, side, 3)
        top, left = (side - height) // 2, (side - width) // 2
        found[top : top + height, left : left + width] = image
        return found
    side = min(height, width)
    top = {"top": 0, "bottom": height - side}.get(position, (height - side) // 2)
    left = {"left": 0, "right": width - side}.get(position, (width - side) // 2)
    return image[top : top + side, left : left + side]


def _sharpened(images: Any, amount: float) -> Any:
    """Contrast-adaptive sharpening (AMD FidelityFX CAS) of [B, H, W, 3] in 0..1."""
    import torch
    from torch.nn.functional import pad, unfold

    x = images.movedim(-1, 1)
    count, channels, height, width = x.shape
    around = unfold(pad(x, (1, 1, 1, 1), mode="replicate"), 3).reshape(count, channels, 9, height, width)
    cross: Sequence[int] = (1, 3, 4, 5, 7)
    least = around[:, :, cross].amin(2) + around.amin(2)
    most = around[:, :, cross].amax(2) + around.amax(2)
    amplitude = (torch.minimum(least, 2.0 - most) / most.clamp(min=1e-5)).clamp(0.0, 1.0).sqrt()
    weight = -amplitude * amount / (8.0 - 3.0 * amount)
    sides = around[:, :, (1, 3, 5, 7)].sum(2)
    return ((sides * weight + x) / (1.0 + 4.0 * weight)).clamp(0.0, 1.0).movedim(1, -1)
