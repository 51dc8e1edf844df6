"""Stable Video Diffusion (arXiv 2311.15127): a short video of one image, without a text.

A U-Net whose blocks have a second half that mixes the frames of a video. It is asked with one vector of CLIP's ViT-H,
with the latent of the image beside each frame, and with three numbers: frames a second, how much moves, and how much
noise was laid over the image. Its latents [frames, 4, h, w] are a batch on wires: all of a batch are one video.

Layouts: `ldm` (the names of its authors: `time_stack`, `time_mixer`) and `diffusers`. SV3D, which has other numbers
than these three, is recognised and does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part
from ...model.latent import LatentFormat
from ..kits import checkpoint, kl_vae, temporal_vae, unet
from ..stable_diffusion import LATENT

__all__ = ["NUMBERS", "SVD"]

Shape = tuple[int, ...]
NUMBERS = ("fps", "motion_bucket_id", "augmentation_level")
"""The options of a conditioning that the network takes as numbers, in its order."""
WIDTH = 256
"""Sines and cosines for each of the numbers."""
LEVELS = Config(kind="edm_v", sigma_min=0.002, sigma_max=700.0, sigma_data=1.0)
CLASS = "UNetSpatioTemporalConditionModel"
SPATIAL, TEMPORAL = "spatial_res_block", "temporal_res_block"


def _recognise(header: Header) -> Found | None:
    found = _find(header)
    if found is None or found.config.projection_class_embeddings_input_dim != WIDTH * len(NUMBERS):
        return None
    channels = int(found.config.out_channels)
    if found.config.in_channels != 2 * channels:
        return None
    configs: dict[str, Any] = {"denoiser": found.config, "prediction": LEVELS}
    configs["latent"] = {"channels": channels, "factor": 8, "frames_are_batch": True, **LATENT}
    parts = {"denoiser": (found.layout, found.prefix)}
    vae = temporal_vae.find(header) or kl_vae.find(header)
    if vae is not None and vae.config.latent_channels == channels:
        configs["vae"] = vae.config
        configs["latent"]["factor"] = kl_vae.factor(vae.config)
        parts["vae"] = (vae.layout, vae.prefix)
    return Found(Config(configs), parts)


def _find(header: Header) -> unet.UnetFound | None:
    for part in ("unet", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == CLASS:
            return unet.UnetFound(_from_json(stated), "diffusers", f"{part}/" if part else "")
    for prefix in unet.PREFIXES:
        shapes = {name[len(prefix) :]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}
        config = _config(unet.ldm_config(shapes)) if unet.IN_TIME in shapes else None
        if config is not None:
            return unet.UnetFound(config, "ldm", prefix)
        if f"down_blocks.0.resnets.0.{TEMPORAL}.conv1.weight" in shapes:
            # The half of each block that looks at one frame is that of a U-Net of images.
            alike = {name.replace(f".{SPATIAL}.", "."): shape for name, shape in shapes.items()}
            config = _config(unet.diffusers_config(alike))
            if config is not None:
                return unet.UnetFound(config, "diffusers", prefix)
    return None


def _config(of_images: Config | None) -> Config | None:
    """The arguments of diffusers' class, from those of the U-Net of images with the same sizes."""
    if of_images is None or "projection_class_embeddings_input_dim" not in of_images:
        return None
    kinds = ("down_block_types", "up_block_types")
    copied = ("in_channels", "out_channels", "block_out_channels", "layers_per_block", "cross_attention_dim")
    more = ("projection_class_embeddings_input_dim", "transformer_layers_per_block")
    return Config(
        {name: of_images[name] for name in (*copied, *more)},
        num_attention_heads=of_images.attention_head_dim,
        addition_time_embed_dim=WIDTH,
        **{name: [kind.replace("2D", "SpatioTemporal") for kind in of_images[name]] for name in kinds},
    )


_DEFAULTS = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "projection_class_embeddings_input_dim": 768,
    "down_block_types": (*("CrossAttnDownBlockSpatioTemporal",) * 3, "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", *("CrossAttnUpBlockSpatioTemporal",) * 3),
}
"""Of the class, where the config of a folder does not state them."""


def _from_json(stated: Mapping[str, Any]) -> Config:
    kept = {key: value for key, value in stated.items() if not key.startswith("_") and key != "num_frames"}
    return Config({**_DEFAULTS, **kept})


def _ldm(config: Config) -> Table:
    table = dict(unet.ldm_table(config))
    for module, name in unet.modules(config):
        if ".resnets." in module:
            table |= unet.residual_block(f"{module}.{SPATIAL}", name)
            table |= unet.residual_block(f"{module}.{TEMPORAL}", f"{name}.time_stack")
            table[f"{module}.time_mixer"] = f"{name}.time_mixer"
        elif ".attentions." in module:
            table |= {
                f"{module}.temporal_transformer_blocks": f"{name}.time_stack",
                f"{module}.time_pos_embed.linear_1": f"{name}.time_pos_embed.0",
                f"{module}.time_pos_embed.linear_2": f"{name}.time_pos_embed.2",
            }
    return table


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(**config.latent)


SVD = Family(
    name="svd",
    version="1",
    title="Stable Video Diffusion",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"ldm": _ldm, "diffusers": lambda config: {"": ""}},
            title="U-Net",
            saved=("ldm", "model.diffusion_model."),
        )
    },
    latent=_latent,
    prediction=checkpoint.prediction,
    network=f"{__name__}.network",
    takes={
        "text": Option("image", rank=2, width=lambda config: int(config.denoiser.cross_attention_dim)),
        "concat": Option("latent", rank=3),
        **{name: Option("number") for name in NUMBERS},
    },
    needs=frozenset({"text"}),
)
