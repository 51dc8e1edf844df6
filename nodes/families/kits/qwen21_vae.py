"""The VAE of Qwen-Image 2.1, of images with an alpha channel: its config from shapes, and its tables. Imports no torch.

Configs are arguments of diffusers' AutoencoderKLQwenImage21. Layouts: `wan` (the names of Wan 2.2's own code, in which
blocks of a level lie in lists of their own; inferred, no published file was at hand) and `diffusers`.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat
from . import wan_residual

__all__ = ["MEAN", "QWEN21_VAE", "STD", "find"]

CLASS = "AutoencoderKLQwenImage21"
COLOURS = 4
"""Channels of an image: red, green, blue and alpha."""
MEAN = (
    0.5126,
    0.7721,
    -0.0631,
    1.3506,
    -0.7855,
    -2.1025,
    -0.3458,
    1.3722,
    1.8873,
    -1.7177,
    -0.6510,
    0.2732,
    0.7562,
    -0.6163,
    -1.0277,
    3.8363,
    2.0210,
    0.0472,
    0.9320,
    2.0087,
    2.4954,
    -0.1391,
    -1.4249,
    1.8464,
    -0.5236,
    1.2826,
    3.7046,
    -1.3035,
    2.7286,
    -1.4518,
    -1.9036,
    -1.9955,
    -0.0342,
    -1.0265,
    -0.7636,
    3.0555,
    0.0746,
    -3.0751,
    -0.1076,
    1.7376,
    -1.0914,
    -1.9435,
    -0.2784,
    -1.3680,
    0.4809,
    -0.4433,
    0.3764,
    0.5729,
    -2.0595,
    1.0960,
    -1.3260,
    -2.0211,
    -5.0179,
    0.5275,
    4.0162,
    1.8505,
    0.3026,
    1.9373,
    1.4937,
    0.2632,
    0.5547,
    -1.7121,
    -0.1562,
    0.0304,
)
STD = (
    3.2001,
    3.2936,
    3.4321,
    3.0091,
    3.1061,
    4.0379,
    4.0705,
    3.7910,
    3.0785,
    3.6500,
    3.9308,
    3.0904,
    2.8778,
    3.7675,
    3.7320,
    5.0756,
    3.2864,
    4.0397,
    3.1317,
    4.0443,
    2.9249,
    3.9454,
    3.0988,
    4.2489,
    3.4896,
    3.8513,
    3.9323,
    3.4719,
    3.7498,
    4.2830,
    3.5694,
    4.2467,
    3.9037,
    3.2947,
    5.0770,
    3.5075,
    3.2700,
    3.4767,
    2.8063,
    5.1125,
    3.5327,
    4.7833,
    3.1286,
    4.1819,
    3.8527,
    3.8312,
    3.5605,
    4.3875,
    3.9624,
    4.0168,
    3.5643,
    4.0550,
    5.5614,
    4.2963,
    4.4080,
    3.4959,
    3.8747,
    3.7608,
    3.5735,
    3.1490,
    3.7662,
    3.6746,
    3.4563,
    3.8161,
)
"""Mean and deviation of each channel of its latents: the defaults of the class in diffusers."""


def find(header: Header) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file or a folder; None where there is none."""
    found = wan_residual.find(header, CLASS)
    return found if found is not None and found[0].in_channels == COLOURS else None


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found[0], {"vae": found[1:]}) if found is not None else None


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(channels=config.z_dim, factor=2 ** (len(config.dim_mult) - 1))


QWEN21_VAE = Family(
    name="qwen21_vae",
    version="1",
    title="VAE of Qwen-Image 2.1",
    recognise=_recognise,
    parts={"vae": Part(build=f"{__name__}_network:build", layouts=wan_residual.LAYOUTS, title="VAE", dtype="float32")},
    latent=_latent,
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are in its own unit."""
