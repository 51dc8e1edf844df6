"""The networks of LTX-Video and LTX-2 that enlarge latents, in space or in time: a latent of twice as many rows and
columns (or one and a half times as many), or frames.

One layout: the names of diffusers' LTXLatentUpsamplerModel and LTX2LatentUpsamplerModel are those of the publisher's
files. Of LTX-2 the step in space may make more cells and then blur some away (`upsampler.conv`). Inferred: one that
makes three of a cell makes two of them in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ..kits.flow import Shape, count

__all__ = ["LTX_UPSAMPLER"]

CONV = "upsampler.conv.weight"
SCALES = {2: 2.0, 3: 1.5, 4: 4.0}
"""Cells along a side that the step makes of one -> how many are left."""
GROUPS = 32
"""Of its norms: its inner channels divide by it."""


def _recognise(header: Header) -> Found | None:
    prefix = "latent_upsampler/" if "latent_upsampler" in header.configs else ""
    shapes = {name.removeprefix(prefix): info.shape for name, info in header.tensors.items() if name.startswith(prefix)}
    if CONV in shapes:
        return _rational(shapes, prefix)
    first, grown = shapes.get("initial_conv.weight", ()), shapes.get("upsampler.0.weight", ())
    blocks = count(shapes, "res_blocks.{}.conv1.weight")
    if len(first) not in (4, 5) or len(grown) not in (4, 5) or not blocks or first[0] % GROUPS:
        return None
    made = grown[0] // first[0]
    in_space, in_time = made in (4, 8), made in (2, 8)
    if (len(grown) == 5) is not in_time or not (in_space or in_time) or grown[0] != made * first[0]:
        return None
    config = Config(
        in_channels=first[1],
        mid_channels=first[0],
        num_blocks_per_stage=blocks,
        dims=len(first) - 2,
        spatial_upsample=in_space,
        temporal_upsample=in_time,
    )
    return Found(config, {"upsampler": ("own", prefix)}, "in time" if in_time and not in_space else "")


def _rational(shapes: Mapping[str, Shape], prefix: str) -> Found | None:
    first, grown = shapes["initial_conv.weight"], shapes[CONV]
    made = isqrt(grown[0] // first[0])
    if len(grown) != 4 or grown[0] != made**2 * first[0] or made not in SCALES or first[0] % GROUPS:
        return None
    config = Config(
        in_channels=first[1],
        mid_channels=first[0],
        num_blocks_per_stage=count(shapes, "res_blocks.{}.conv1.weight"),
        dims=len(first) - 2,
        spatial_upsample=True,
        temporal_upsample=False,
        rational_spatial_scale=SCALES[made],
    )
    return Found(config, {"upsampler": ("own", prefix)}, f"x{SCALES[made]:g}")


LTX_UPSAMPLER = Family(
    name="ltx_upsampler",
    version="1",
    title="latent upscaler of LTX-Video",
    recognise=_recognise,
    parts={
        "upsampler": Part(
            build=f"{__name__}.network:build",
            layouts={"own": lambda config: {"": ""}},
            title="latent upscaler",
            optional=("upsampler.blur_down.kernel",),
        )
    },
    network=f"{__name__}.network",
)
