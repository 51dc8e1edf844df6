"""The networks of LTX-Video that enlarge latents, in space or in time: a latent of twice as many rows and columns, or
frames.

One layout: the names of diffusers' LTXLatentUpsamplerModel are those of the publisher's files.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ..kits.flow import count

__all__ = ["LTX_UPSAMPLER"]

GROUPS = 32
"""Of its norms: its inner channels divide by it."""


def _recognise(header: Header) -> Found | None:
    prefix = "latent_upsampler/" if "latent_upsampler" in header.configs else ""
    shapes = {name.removeprefix(prefix): info.shape for name, info in header.tensors.items() if name.startswith(prefix)}
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


LTX_UPSAMPLER = Family(
    name="ltx_upsampler",
    version="1",
    title="latent upscaler of LTX-Video",
    recognise=_recognise,
    parts={
        "upsampler": Part(
            build=f"{__name__}.network:build", layouts={"own": lambda config: {"": ""}}, title="latent upscaler"
        )
    },
    network=f"{__name__}.network",
)
