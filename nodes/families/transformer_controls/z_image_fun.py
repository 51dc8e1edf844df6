"""Fun ControlNets of Z-Image: blocks beside those of the transformer, which see the latent of a hint.

A file has 16 columns for the hint, or 33: with the mask of what stays and the latent of an image to inpaint. The way
into the network (embeddings, refiners) is that of the model, so it exists only together with one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...files.header import Header, read_header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import ControlNet, Model
from ...patches.control_lora import OverBase
from ..kits import flow
from .layouts import count_of, shapes_of

__all__ = ["Z_IMAGE_FUN"]

PATCH = 2
_INPUT, _REFINER = "control_all_x_embedder.2-1.weight", "control_noise_refiner.0.before_proj.weight"
OF_MODEL = (
    "t_embedder.*",
    "all_x_embedder.*",
    "cap_embedder.*",
    "noise_refiner.*",
    "context_refiner.*",
    "x_pad_token",
    "cap_pad_token",
)


def _recognise(header: Header) -> Found | None:
    shapes = shapes_of(header)
    if _INPUT not in shapes or "control_layers.0.after_proj.weight" not in shapes:
        return None
    dim, columns = shapes[_INPUT]
    head = shapes["control_layers.0.attention.norm_q.weight"][0]
    channels = columns // PATCH**2
    old = channels == flow.FLUX_LATENT["channels"]
    denoiser = Config(
        dim=dim,
        n_heads=dim // head,
        control_layers=count_of(shapes, "control_layers.{}.after_proj.weight"),
        control_in_dim=channels,
        n_refiner_layers=count_of(shapes, "control_noise_refiner.{}.ffn_norm1.weight") or 2,
        add_control_noise_refiner=None if old else "control_layers",
    )
    latent = dict(flow.FLUX_LATENT)
    return Found(Config({"denoiser": denoiser, "latent": latent}), {"denoiser": ("diffusers", "")}, "Fun ControlNet")


def _misfit(config: Config, model: Model) -> str:
    if model.family.name != "z_image":
        return f"it steers Z-Image, the model is {model.family.title}"
    own, other = config.denoiser, model.config.denoiser
    if own.dim != other.dim or own.n_heads != other.n_heads:
        return f"it steers another Z-Image (channels of a block: {own.dim}, the model's has {other.dim})"
    if own.control_layers > other.n_layers:
        return f"it steers a Z-Image of {own.control_layers} blocks or more, the model has {other.n_layers}"
    return ""


def _completed(control: ControlNet, model: Model) -> ControlNet:
    """With the way in of a model. Whether the refiner of a file was trained shows in its numbers alone."""
    from ...files.tensors import TensorReader

    source, own = control.source("denoiser"), control.config.denoiser
    header, refiner = read_header(Path(source.path)), own.add_control_noise_refiner
    if refiner is not None and _REFINER in header.tensors:
        with TensorReader(header) as reader:
            if bool(reader.get(_REFINER).any()):
                refiner = "control_noise_refiner"
    apart = model.config.denoiser.n_layers // own.control_layers
    denoiser = own | {
        "control_layers_places": [apart * number for number in range(own.control_layers)],
        "control_refiner_layers_places": list(range(own.n_refiner_layers)),
        "add_control_noise_refiner": refiner,
        "model": model.config.denoiser,
    }
    patch = OverBase(model, source, (("", ""),))
    return replace(control, config=control.config | {"denoiser": denoiser}).with_patch(patch)


Z_IMAGE_FUN = Family(
    name="z_image_fun",
    version="1",
    title="Fun ControlNet of Z-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__package__}.z_image:build",
            layouts={"diffusers": lambda config: {"": ""}},
            title="Fun ControlNet",
            unused=("control_noise_refiner.*",),
            optional=OF_MODEL,
        )
    },
    latent=flow.latent_format,
    network=f"{__package__}.z_image",
    misfit=_misfit,
    completed=_completed,
)
