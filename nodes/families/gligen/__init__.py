"""GLIGEN (arXiv 2301.07093): things in boxes, by attention of their own between the two attentions of each block of a
U-Net. It acts within the network of Stable Diffusion 1.x."""

from __future__ import annotations

import re

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import Model
from ...model.latent import LatentFormat
from ..kits import unet

__all__ = ["BOXES", "GLIGEN"]

BOXES = 30
"""That the network was trained with, at most."""
_NAME = re.compile(
    r"^(input_blocks|middle_block|output_blocks)\.(\d+)\.(.*?)transformer_blocks\.0\.fuser\.linear\.weight$"
)
_ORDER = {"input_blocks": 0, "middle_block": 1, "output_blocks": 2}
FOURIER = 64
"""Sines and cosines of a box: 8 frequencies of 4 numbers."""


def _recognise(header: Header) -> Found | None:
    shapes = {name: info.shape for name, info in header.tensors.items()}
    if "position_net.null_positive_feature" not in shapes:
        return None
    found = sorted((_ORDER[m[1]], int(m[2]), m[0]) for m in map(_NAME.match, shapes) if m is not None)
    keys = [name.removesuffix(".linear.weight") for _, _, name in found]
    if not keys:
        return None
    denoiser = Config(
        places=keys,
        widths=[shapes[f"{key}.linear.weight"][0] for key in keys],
        text=shapes["position_net.linears.0.weight"][1] - FOURIER,
        context=shapes["position_net.linears.4.weight"][0],
    )
    config = Config({"denoiser": denoiser, "latent": {"channels": 4, "factor": 8}})
    return Found(config, {"denoiser": ("ldm", "")}, f"{len(keys)} places")


def _table(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {"": ""}
    return table | {f"fusers.{number}": key for number, key in enumerate(config.places)}


def _misfit(config: Config, model: Model) -> str:
    own, other = config.denoiser, model.config.get("denoiser")
    if not isinstance(other, Config) or model.family.ports.residuals != unet.PORTS.residuals:
        return f"it acts within a U-Net of Stable Diffusion 1.x, which {model.family.title} does not have"
    widths = {
        width
        for width, kind in zip(other.block_out_channels, other.down_block_types, strict=True)
        if kind.startswith("CrossAttn")
    }
    if unet.takes_sizes(other) or own.context != other.cross_attention_dim or not widths <= set(own.widths):
        return (
            f"it was made for another U-Net (columns of the text: {own.context}, {model.family.title} has "
            f"{other.cross_attention_dim})"
        )
    return ""


GLIGEN = Family(
    name="gligen",
    version="1",
    title="GLIGEN",
    recognise=_recognise,
    parts={"denoiser": Part(build=f"{__name__}.network:build", layouts={"ldm": _table}, title="GLIGEN")},
    latent=lambda config: LatentFormat(**config.latent),
    network=f"{__name__}.network",
    misfit=_misfit,
    acts_within=True,
)
