"""The VAE of Stable Video Diffusion: it encodes single images as that of Stable Diffusion does, and decodes the frames
of a video together. Its config from shapes, and its table. Imports no torch.

Configs are the arguments of diffusers' AutoencoderKLTemporalDecoder, and `use_quant_conv`. Layouts: `ldm` (the names
of its authors: `time_stack`, `mix_factor`) and `diffusers`. Checkpoints have no convolution behind the encoder, which
diffusers' class has: there it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat
from . import kl_vae, unet

__all__ = ["FRAMES", "TEMPORAL_VAE", "find"]

CLASS = "AutoencoderKLTemporalDecoder"
FRAMES = 8
"""So many frames are decoded at a time, at most: they see each other, and memory is that of so many images."""
IN_TIME = (
    "decoder.mid.block_1.time_stack.in_layers.2.weight",
    "decoder.mid_block.resnets.0.temporal_res_block.conv1.weight",
)
"""What shows it, by layout."""
_KEPT = ("in_channels", "out_channels", "latent_channels", "block_out_channels", "layers_per_block", "down_block_types")


def find(header: Header) -> kl_vae.VaeFound | None:
    """The VAE of a checkpoint, a file of its own or a diffusers folder; None where there is none of this kind."""
    shapes = {name: info.shape for name, info in header.tensors.items()}
    for part in ("vae", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == CLASS:
            return kl_vae.VaeFound(_from_json(stated), "diffusers", f"{part}/" if part else "")
    for prefix in kl_vae.PREFIXES:
        found = kl_vae.in_shapes(shapes, prefix)
        if found is not None and any(prefix + name in shapes for name in IN_TIME):
            config, layout = found
            kept = {name: config[name] for name in (*_KEPT, "use_quant_conv")}
            return kl_vae.VaeFound(Config(kept), layout, prefix)
    return None


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found.config, {"vae": (found.layout, found.prefix)}) if found is not None else None


def _from_json(stated: Mapping[str, Any]) -> Config:
    kept = {name: stated[name] for name in _KEPT if name in stated}
    defaults = {"in_channels": 3, "latent_channels": 4, "layers_per_block": 1, "block_out_channels": (64,)}
    return Config({**defaults, **kept, "use_quant_conv": True})


def _ldm(config: Config) -> Table:
    table = dict(kl_vae.LAYOUTS["ldm"](config))
    for module, name in kl_vae.modules(config):
        if module.startswith("decoder.") and ".resnets." in module:
            spatial = f"{module}.spatial_res_block"
            table |= {spatial: name, f"{spatial}.conv_shortcut": f"{name}.nin_shortcut"}
            table |= unet.residual_block(f"{module}.temporal_res_block", f"{name}.time_stack")
            table[f"{module}.time_mixer"] = name
    return {**table, "decoder.time_conv_out": "decoder.conv_out.time_mix_conv"}


TEMPORAL_VAE = Family(
    name="temporal_vae",
    version="1",
    title="VAE of Stable Video Diffusion",
    recognise=_recognise,
    parts={
        "vae": Part(
            build=f"{__name__}_network:build",
            layouts={"ldm": _ldm, "diffusers": lambda config: {"": ""}},
            title="VAE",
            dtype="float32",  # as that of Stable Diffusion
            unused=kl_vae.UNUSED,
            saved=("ldm", "first_stage_model."),
        )
    },
    latent=lambda config: LatentFormat(
        channels=config.latent_channels, factor=kl_vae.factor(config), frames_at_once=FRAMES
    ),
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are in its own unit, those of the VAE of Stable Diffusion."""
