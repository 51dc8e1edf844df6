"""Several reference images at once for models that edit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Conditioning, Grow, Image, Latent, Range, Settings, Variants, node

from ..devices.environment import numerics
from ..limits import check_latent
from ..model.wires import VaeWire
from ..resampling import resize
from .editing import with_references

if TYPE_CHECKING:
    from torch import Tensor

MEGAPIXEL = 1024**2
MULTIPLE = 16
"""Sides of resized images, in pixels, are multiples of this."""


@dataclass(frozen=True, slots=True)
class ReferenceMegapixels:
    megapixels: Annotated[float, Range(0.01, 16.0, 0.01)] = 1.0


class ReferencesAdded(NamedTuple):
    positive: Conditioning
    negative: Conditioning
    empty_latent: Latent


@node(
    "ReferenceMultiLatent",
    category="advanced/conditioning/edit_models",
    display_name="Reference Latents",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def reference_multi_latent(
    settings: Settings,
    positive: Conditioning,
    vae: VaeWire,
    resolution: Annotated[Any, Variants({"keep resolution": None, "resize": ReferenceMegapixels})],
    images: Annotated[dict[str, Any], Grow(Image, prefix="image", min=1, max=16, optional=True)],
    negative: Conditioning | None = None,
) -> ReferencesAdded:
    """Images as latents that an editing model sees beside the one that it makes, on both conditionings.

    `resize` brings each to about so many megapixels in its proportions. `empty_latent` has the size of the first image;
    without images it is a square.
    """
    from ..devices.use import open_device
    from ..devices.vae import encode_cut

    device = open_device(settings)
    megapixels = getattr(resolution, "megapixels", None)
    latents = [encode_cut(device, vae, _sized(image[:1, ..., :3], megapixels)) for image in images.values()]
    empty = _like(latents[0]) if latents else _square(vae, megapixels)
    without = positive if negative is None else negative
    return ReferencesAdded(with_references(positive, latents), with_references(without, latents), empty)


def _sized(image: Tensor, megapixels: float | None) -> Tensor:
    if megapixels is None:
        return image
    height, width = image.shape[1:3]
    scale = math.sqrt(megapixels * MEGAPIXEL / (width * height))
    across, down = (max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in (width, height))
    return resize(image.movedim(-1, 1), across, down, "area").movedim(1, -1)


def _like(latent: Tensor) -> dict[str, Any]:
    import torch

    return {"samples": torch.zeros_like(latent)}


def _square(vae: VaeWire, megapixels: float | None) -> dict[str, Any]:
    import torch

    side = round(math.sqrt((megapixels or 1.0) * MEGAPIXEL) / MULTIPLE) * MULTIPLE
    shape = vae.latent.shape(side, side)
    check_latent(shape)
    return {"samples": torch.zeros(shape)}
