"""The VAE of Wan 2.2 5B, of images and videos: 48 channels, cells of 16 x 16 pixels. Imports no torch.

Configs are arguments of diffusers' AutoencoderKLWan. Layouts: `wan` (the names of Wan 2.2's own code) and `diffusers`.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat
from . import wan_residual

__all__ = ["CHANNELS", "MEAN", "STD", "WAN22_VAE", "find", "latent_of"]

CHANNELS = 48
PATCH = 2
"""Pixels of a side that the network sees as channels of one."""
COLOURS = 3 * PATCH**2
MEAN = (
    (-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891)
    + (0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502)
    + (-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723)
    + (-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667)
)
STD = (
    (0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901)
    + (0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659)
    + (0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944)
    + (0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744)
)
"""Mean and deviation of each channel of its latents, as its authors publish them."""


def find(header: Header) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file or a folder; None where there is none."""
    found = wan_residual.find(header, "AutoencoderKLWan")
    if found is None or found[0].in_channels != COLOURS or found[0].z_dim != CHANNELS:
        return None
    config, layout, prefix = found
    return config | {"is_residual": True, "patch_size": PATCH}, layout, prefix


def latent_of(channels: int, multiple: int) -> LatentFormat:
    """The latents of a denoiser of videos that has this VAE."""
    return LatentFormat(
        channels=channels,
        factor=16,
        axes=3,
        time_factor=4,
        multiple=multiple,
        scale=tuple(1.0 / deviation for deviation in STD),
        shift=MEAN,
    )


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found[0], {"vae": found[1:]}) if found is not None else None


WAN22_VAE = Family(
    name="wan22_vae",
    version="1",
    title="VAE of Wan 2.2",
    recognise=_recognise,
    parts={"vae": Part(build=f"{__name__}_network:build", layouts=wan_residual.LAYOUTS, title="VAE", dtype="float32")},
    latent=lambda config: LatentFormat(
        channels=config.z_dim,
        factor=config.patch_size * 2 ** (len(config.dim_mult) - 1),
        axes=3,
        time_factor=2 ** sum(config.temperal_downsample),
    ),
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are in its own unit. An image is a video of one frame."""
