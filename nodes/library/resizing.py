"""One node for every way to say how large an image or a mask is to be."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from graphflow import Choice, Match, Range, Variants, Wire, node

from ..devices.environment import numerics
from ..resampling import CROPS, METHODS, missing_side, resize
from .masks import batch_of
from .transforms import MEGAPIXEL

_Either = Annotated[Any, Match("input_type", "IMAGE,MASK")]
_Side = Annotated[int, Range(0, 100000)]
_Factor = Annotated[float, Range(0.0, 100000.0, 1e-6)]
_Crop = Annotated[str, Choice(CROPS)]


class Resized(NamedTuple):
    resized: _Either


@dataclass(frozen=True, slots=True)
class ScaleDimensions:
    width: _Side = 512
    height: _Side = 512
    crop: _Crop = "center"

    def size(self, width: int, height: int) -> tuple[int, int]:
        if self.width == 0 and self.height == 0:
            return width, height
        return missing_side(self.width, self.height, width, height)


@dataclass(frozen=True, slots=True)
class ScaleByMultiplier:
    multiplier: _Factor = 1.0

    def size(self, width: int, height: int) -> tuple[int, int]:
        return round(width * self.multiplier), round(height * self.multiplier)


@dataclass(frozen=True, slots=True)
class ScaleLonger:
    longer_size: _Side = 512

    def size(self, width: int, height: int) -> tuple[int, int]:
        return _by(self.longer_size / max(width, height), width, height)


@dataclass(frozen=True, slots=True)
class ScaleShorter:
    shorter_size: _Side = 512

    def size(self, width: int, height: int) -> tuple[int, int]:
        return _by(self.shorter_size / min(width, height), width, height)


@dataclass(frozen=True, slots=True)
class ScaleWidth:
    width: _Side = 512

    def size(self, width: int, height: int) -> tuple[int, int]:
        return _by(self.width / width, width, height)


@dataclass(frozen=True, slots=True)
class ScaleHeight:
    height: _Side = 512

    def size(self, width: int, height: int) -> tuple[int, int]:
        return _by(self.height / height, width, height)


@dataclass(frozen=True, slots=True)
class ScaleTotalPixels:
    megapixels: _Factor = 1.0

    def size(self, width: int, height: int) -> tuple[int, int]:
        return _by(math.sqrt(self.megapixels * MEGAPIXEL / (width * height)), width, height)


@dataclass(frozen=True, slots=True)
class MatchSize:
    match: Annotated[Any, Wire("IMAGE,MASK")]
    crop: _Crop = "center"

    def size(self, width: int, height: int) -> tuple[int, int]:
        return self.match.shape[2], self.match.shape[1]


@dataclass(frozen=True, slots=True)
class ScaleToMultiple:
    multiple: Annotated[int, Range(0, 100000)] = 8

    def size(self, width: int, height: int) -> tuple[int, int]:
        step = max(1, self.multiple)
        return max(step, width // step * step), max(step, height // step * step)


_WAYS = {
    "scale dimensions": ScaleDimensions,
    "scale by multiplier": ScaleByMultiplier,
    "scale longer dimension": ScaleLonger,
    "scale shorter dimension": ScaleShorter,
    "scale width": ScaleWidth,
    "scale height": ScaleHeight,
    "scale total pixels": ScaleTotalPixels,
    "match size": MatchSize,
    "scale to multiple": ScaleToMultiple,
}


@node(
    "ResizeImageMaskNode",
    category="image/transform",
    display_name="Resize Image/Mask",
    version="2",
    environment=numerics,
)
def resize_image_mask(
    input: _Either,
    resize_type: Annotated[Any, Variants(_WAYS)],
    scale_method: Annotated[str, Choice((*METHODS, "lanczos"))] = "area",
) -> Resized:
    """Resample images or masks to a size that is said in one of nine ways.

    Where both sides are given, a side of 0 follows from the other one, and `crop` cuts evenly to the new proportions
    first. `scale to multiple` takes the largest multiples that fit and cuts what is over.
    """
    planes = input.movedim(-1, 1) if input.ndim == 4 else batch_of(input)[:, None]
    width, height = (max(1, side) for side in resize_type.size(planes.shape[-1], planes.shape[-2]))
    crop = "center" if isinstance(resize_type, ScaleToMultiple) else getattr(resize_type, "crop", "disabled")
    if (height, width) == tuple(planes.shape[-2:]):
        return Resized(input)
    out = resize(planes, width, height, scale_method, crop)
    return Resized(out.movedim(1, -1) if input.ndim == 4 else out[:, 0])


def _by(factor: float, width: int, height: int) -> tuple[int, int]:
    return round(width * factor), round(height * factor)
