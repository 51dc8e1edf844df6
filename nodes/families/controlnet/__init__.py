"""ControlNets of Stable Diffusion 1.x, 2.x and XL (arXiv 2302.05543), with those for several kinds of images (union).

A ControlNet is a copy of the half of a U-Net that goes down, which sees an image, the hint, as well. What its blocks
answer is added to the answers of the U-Net's own blocks on their way to the half that goes up.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import Model
from ...model.latent import LatentFormat
from ..kits import unet
from . import layouts

__all__ = ["CONTROLNET"]

TRAINED_FOR = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Columns of the cross attention -> the models that have so many."""


def _recognise(header: Header) -> Found | None:
    found = layouts.find(header)
    if found is None:
        return None
    latent = {"channels": found.config.in_channels, "factor": 8}
    config = Config({"denoiser": found.config, "latent": latent, "is_difference": layouts.is_difference(header)})
    return Found(config, {"denoiser": (found.layout, found.prefix)}, layouts.variant(found.config))


def _misfit(config: Config, model: Model) -> str:
    own, other = config.denoiser, model.config.get("denoiser")
    if not isinstance(other, Config) or model.family.ports.residuals != unet.PORTS.residuals:
        return f"it steers a U-Net of Stable Diffusion, which {model.family.title} does not have"
    for what in ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type"):
        if what == "cross_attention_dim" and not layouts.has_attention(own):
            continue
        if own.get(what) != other.get(what):
            trained = TRAINED_FOR.get(own.cross_attention_dim, "another U-Net")
            return (
                f"it steers {trained}, the model is {model.family.title} ({what}: {own.get(what)}, {other.get(what)})"
            )
    if own.in_channels != model.latent.channels:
        return f"it takes latents of {own.in_channels} channels, the model makes {model.latent.channels}"
    return ""


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(**config.latent)


CONTROLNET = Family(
    name="controlnet",
    version="1",
    title="ControlNet",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build", layouts=layouts.LAYOUTS, title="ControlNet", unused=layouts.UNUSED
        )
    },
    latent=_latent,
    network=f"{__name__}.network",
    misfit=_misfit,
)
