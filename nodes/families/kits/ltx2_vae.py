"""The VAE of LTX-2 and 2.3, of images and videos: its config from shapes, and its table. Imports no torch.

Its cells and its pieces are those of LTX-Video 0.9.5 (ltx_vae.py), its decoder is not asked with a time, and it pads in
another way. Configs are arguments of diffusers' AutoencoderKLLTX2Video. The decoder of 2.3 has four steps of three
kinds, that of 2.0 three alike.

Inferred from the published configs, as no shape shows it: a decoder of three steps pads by reflection and has shortcuts
around them, one of four pads with zeros and has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import isqrt

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from .flow import Shape
from .ltx_vae import LAYOUTS, SPACE, TIME, UNITED, find_by, halves_of, latent_of

__all__ = ["LTX2_VAE", "find"]

CLASS, BLOCK = "AutoencoderKLLTX2Video", "LTX2VideoDownBlock3D"
PLAIN_STEPS = 3
"""Of the decoder of LTX-2."""


def find(header: Header) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file or a folder; None where there is none."""
    return find_by(header, CLASS, _read)


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found[0], {"vae": found[1:]}) if found is not None else None


def _read(shapes: Mapping[str, Shape], layout: str) -> Config | None:
    halves = halves_of(shapes, layout)
    has_time = any(name.endswith("time_embedder.timestep_embedder.linear_1.weight") for name in shapes)
    if halves is None or has_time or not halves.are_new:
        return None
    down = (*halves.down, halves.middle)
    widths = [level["blocks"].conv[0] for level in down]
    steps = [level.get("step") for level in halves.down]
    made = [level["blocks"].conv[0] for level in halves.up]
    grown = [level.get("step") for level in halves.up[1:]]
    if any(step is None for step in grown):
        return None
    factors = [before // after for before, after in pairwise(made)]
    ways = [
        UNITED[factor * step.conv[0] // step.conv[1]]
        for factor, step in zip(factors, grown, strict=True)
        if step is not None
    ]
    is_plain = len(grown) == PLAIN_STEPS
    return Config(
        latent_channels=shapes["decoder.conv_in.conv.weight"][1],
        patch_size=isqrt(shapes["encoder.conv_in.conv.weight"][1] // 3),
        block_out_channels=widths[1:],
        down_block_types=[BLOCK] * len(halves.down),
        layers_per_block=[level["blocks"].layers for level in down],
        spatio_temporal_scaling=[step is not None for step in steps],
        downsample_type=[
            UNITED[after // step.conv[0]] if step is not None else "conv"
            for step, after in zip(steps, widths[1:], strict=True)
        ],
        decoder_block_out_channels=[width * factor for width, factor in zip(made[1:], factors, strict=True)][::-1],
        decoder_layers_per_block=[level["blocks"].layers for level in halves.up][::-1],
        decoder_spatio_temporal_scaling=[True] * len(grown),
        decoder_inject_noise=[False] * len(halves.up),
        upsample_type=ways,
        upsample_residual=[is_plain] * len(grown),
        upsample_factor=factors[::-1],
        timestep_conditioning=False,
        encoder_causal=True,
        decoder_causal=False,
        decoder_spatial_padding_mode="reflect" if is_plain else "zeros",
        spatial_compression_ratio=SPACE,
        temporal_compression_ratio=TIME,
    )


LTX2_VAE = Family(
    name="ltx2_vae",
    version="1",
    title="VAE of LTX-2",
    recognise=_recognise,
    parts={
        "vae": Part(
            build=f"{__package__}.ltx2_vae_network:build",
            layouts=LAYOUTS,
            title="VAE",
            unused=("per_channel_statistics.*",),
        )
    },
    latent=lambda config: latent_of(config.latent_channels),
    network=f"{__package__}.ltx2_vae_network",
)
"""A kind of VAE: its latents are normalised. An image is a video of one frame."""
