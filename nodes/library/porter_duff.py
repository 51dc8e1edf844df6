"""Two images with alpha composed by the operators of Porter and Duff, and by blend modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from graphflow import Choice, Image, Mask, node

from ..devices.environment import numerics
from ..resampling import resize
from .batch import repeat_to
from .images import ImageAndMask
from .masks import batch_of

if TYPE_CHECKING:
    from torch import Tensor

_MODES = (
    "ADD",
    "CLEAR",
    "DARKEN",
    "DST",
    "DST_ATOP",
    "DST_IN",
    "DST_OUT",
    "DST_OVER",
    "LIGHTEN",
    "MULTIPLY",
    "OVERLAY",
    "SCREEN",
    "SRC",
    "SRC_ATOP",
    "SRC_IN",
    "SRC_OUT",
    "SRC_OVER",
    "XOR",
)


@node(
    "PorterDuffImageComposite",
    category="mask/compositing",
    display_name="Porter-Duff Image Composite",
    version="1",
    environment=numerics,
)
def porter_duff_image_composite(
    source: Image,
    source_alpha: Mask,
    destination: Image,
    destination_alpha: Mask,
    mode: Annotated[str, Choice(_MODES)] = "DST",
) -> ImageAndMask:
    r"""Compose a source with a destination (Porter and Duff 1984; W3C Compositing and Blending 1, sections 5 and 9).

    .. math:: \alpha = F_s \alpha_s + F_d \alpha_d, \quad \alpha C = F_s \alpha_s C_s + F_d \alpha_d C_d

    The mode names the factors F, for instance SRC_OVER: F_s = 1, F_d = 1 - alpha_s. ADD sums both, up to 1. MULTIPLY,
    SCREEN, OVERLAY, DARKEN and LIGHTEN are SRC_OVER with blended colours where both are:

    .. math:: \alpha C = \alpha_s (1 - \alpha_d) C_s + \alpha_d (1 - \alpha_s) C_d + \alpha_s \alpha_d B(C_d, C_s)

    A mask is 1 where its image is transparent, as LoadImage gives it, and so is the mask of the result. The result is
    black where it is transparent. The source gets the size of the destination, cut evenly to its proportions.
    """
    height, width = destination.shape[1:3]
    count = max(len(one) for one in (source, batch_of(source_alpha), destination, batch_of(destination_alpha)))
    below, below_alpha = _with_alpha(destination, destination_alpha, count, width, height)
    above, above_alpha = _with_alpha(source, source_alpha, count, width, height)
    colour, alpha = _composed(above, above_alpha, below, below_alpha, mode)
    return ImageAndMask(colour.movedim(1, -1), 1.0 - alpha[:, 0])


def _with_alpha(image: Tensor, mask: Tensor, count: int, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Colours [B,3,H,W] and opacity [B,1,H,W] in a size; the mask goes over its image before both are cut."""
    colour, clear = image[..., :3].movedim(-1, 1), batch_of(mask)[:, None].float()
    if clear.shape[-2:] != colour.shape[-2:]:
        clear = resize(clear, colour.shape[-1], colour.shape[-2], "bilinear")
    if colour.shape[-2:] != (height, width):
        colour = resize(colour, width, height, "bicubic", "center").clamp(0.0, 1.0)
        clear = resize(clear, width, height, "bicubic", "center")
    return repeat_to(colour, count), 1.0 - repeat_to(clear, count).clamp(0.0, 1.0)


def _composed(s: Tensor, s_alpha: Tensor, d: Tensor, d_alpha: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Colours and opacity of the result, of those of the source and of the destination."""
    import torch

    if mode in _BLENDS:
        both = s_alpha * d_alpha
        alpha = s_alpha + d_alpha - both
        colour = s_alpha * (1.0 - d_alpha) * s + d_alpha * (1.0 - s_alpha) * d + both * _blended(d, s, mode)
    elif mode == "ADD":
        alpha = (s_alpha + d_alpha).clamp(max=1.0)
        colour = (s_alpha * s + d_alpha * d).clamp(max=1.0)
    else:
        s_part, d_part = _factors(mode, s_alpha, d_alpha)
        alpha = s_part * s_alpha + d_part * d_alpha
        colour = s_part * s_alpha * s + d_part * d_alpha * d
    return torch.where(alpha > 0.0, colour / alpha.clamp(min=1e-6), 0.0).clamp(0.0, 1.0), alpha


_BLENDS = frozenset({"MULTIPLY", "SCREEN", "OVERLAY", "DARKEN", "LIGHTEN"})


def _blended(below: Tensor, above: Tensor, mode: str) -> Tensor:
    """B(C_d, C_s) of the separable modes (section 10.1)."""
    import torch

    match mode:
        case "MULTIPLY":
            return below * above
        case "SCREEN":
            return below + above - below * above
        case "DARKEN":
            return torch.minimum(below, above)
        case "LIGHTEN":
            return torch.maximum(below, above)
        case _:
            return torch.where(below <= 0.5, 2.0 * below * above, 1.0 - 2.0 * (1.0 - below) * (1.0 - above))


def _factors(mode: str, s: Tensor, d: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """F_s and F_d of the operators (section 9.1), of the opacities."""
    match mode:
        case "CLEAR":
            return 0.0, 0.0
        case "SRC":
            return 1.0, 0.0
        case "DST":
            return 0.0, 1.0
        case "SRC_OVER":
            return 1.0, 1.0 - s
        case "DST_OVER":
            return 1.0 - d, 1.0
        case "SRC_IN":
            return d, 0.0
        case "DST_IN":
            return 0.0, s
        case "SRC_OUT":
            return 1.0 - d, 0.0
        case "DST_OUT":
            return 0.0, 1.0 - s
        case "SRC_ATOP":
            return d, 1.0 - s
        case "DST_ATOP":
            return 1.0 - d, s
        case _:
            return 1.0 - d, 1.0 - s
