"""The image that a control network sees, in the size that it takes."""

from __future__ import annotations

from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...resampling import resize

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
    return resize(image[:, :channels], width, height, method="nearest-exact", crop="center")[0]
