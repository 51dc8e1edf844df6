"""What is painted over an image in the editor."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import FreeLiteral, GraphFlowError, Image, Mask, Problem, Range, Settings, Wire, node

from ..devices.environment import decoding
from ..files.user_files import input_digest, input_path
from ..limits import check_pixels
from ..resampling import resize
from .images import input_frames

if TYPE_CHECKING:
    from torch import Tensor

_Side = Annotated[int, Range(64, 4096, 64)]
_Color = Annotated[Any, Wire("COLOR"), FreeLiteral()]


class Painted(NamedTuple):
    IMAGE: Image
    MASK: Mask


def painted_digest(settings: Settings, mask: str = "", **_: Any) -> str:
    """The fingerprint of the painted layer."""
    return input_digest(settings, mask) if mask else ""


def check_painted(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[Any]:
    """Raises a Problem where the painted layer is not there, or the colour is not one."""
    layer, color = literals.get("mask"), literals.get("bg_color")
    if isinstance(layer, str) and layer and not input_path(settings, layer).is_file():
        raise GraphFlowError(
            [
                Problem(
                    "no_file",
                    f"the painted layer {layer[:200]!r} is not there",
                    input="mask",
                    hint="paint it again in the editor, or leave `mask` empty",
                )
            ]
        )
    if isinstance(color, str):
        _rgb(color)
    yield from ()


@node(
    "Painter",
    category="image",
    display_name="Painter",
    version="1",
    outside=painted_digest,
    environment=decoding,
    check=check_painted,
)
def painter(
    settings: Settings,
    mask: str = "",
    width: _Side = 512,
    height: _Side = 512,
    bg_color: _Color = "#000000",
    image: Image | None = None,
) -> Painted:
    """An image, or a canvas of one colour, with the layer that was painted over it in the editor; the mask is where.

    `mask` names the file of the layer; it is brought to the size of the image.
    """
    import torch

    if image is None:
        check_pixels(width, height)
        image = torch.tensor(_rgb(bg_color)).repeat(1, height, width, 1)
    base = image[..., :3]
    if not mask:
        return Painted(base, torch.zeros(base.shape[:3]))
    colours, opacity = _layer(settings, mask, base.shape[2], base.shape[1])
    return Painted(base * (1 - opacity) + colours * opacity, opacity[..., 0].expand(base.shape[:3]).clone())


def _layer(settings: Settings, name: str, width: int, height: int) -> "tuple[Tensor, Tensor]":
    """Colours [1,H,W,3] and opacity [1,H,W,1] of the painted layer."""
    import numpy as np
    import torch

    (frame,) = input_frames(settings, name, most=1)
    opaque = np.ones(frame.colours.shape[:2], np.float32) if frame.opacity is None else frame.opacity
    layer = torch.from_numpy(np.concatenate([frame.colours, opaque[..., None]], axis=-1))[None]
    if tuple(layer.shape[1:3]) != (height, width):
        layer = resize(layer.movedim(-1, 1), width, height, "bilinear").movedim(1, -1)
    return layer[..., :3], layer[..., 3:]


def _rgb(color: Any) -> list[float]:
    """Red, green and blue in 0..1 of `#rrggbb`. Raises a Problem where it is another value."""
    digits = str(color).removeprefix("#")
    try:
        if len(digits) == 6:
            return [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    except ValueError:
        pass
    raise GraphFlowError(
        [Problem("not_a_color", f"{str(color)[:40]!r} is not a colour", input="bg_color", hint="write it as #rrggbb")]
    )
