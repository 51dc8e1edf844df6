"""The image that a control network sees, in the size that it takes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from graphflow import GraphFlowError, Problem

__all__ = ["sized_hint"]


def sized_hint(hint: Tensor, sides: tuple[int, ...], channels: int) -> Tensor:
    """The one image of [1, H, W, C] in 0..1 as [channels, *sides].

    The longer side is cut at both ends to the proportions of `sides`, and the rest takes the nearest pixels. A network
    of one channel sees grey. Raises a Problem where it takes more channels than the image has.
    """
    image = hint[0].movedim(-1, 0)[None].float()
    if channels == 1:
        image = image[:, :3].mean(1, keepdim=True)
    if image.shape[1] < channels:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_hint",
                    f"the control network takes images of {channels} channels, this one has {image.shape[1]}",
                    hint="such a network needs an image that was made for it",
                )
            ]
        )
    height, width = sides
    return interpolate(_cut(image[:, :channels], width / height), size=(height, width), mode="nearest-exact")[0]


def _cut(image: Tensor, ratio: float) -> Tensor:
    height, width = image.shape[-2:]
    across = round((width - height * ratio) / 2) if width / height > ratio else 0
    down = round((height - width / ratio) / 2) if width / height < ratio else 0
    across, down = min(across, (width - 1) // 2), min(down, (height - 1) // 2)
    return image[..., down : height - down, across : width - across]
