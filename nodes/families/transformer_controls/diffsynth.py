r"""Block-wise control of Qwen-Image (DiffSynth): a small block behind each block of the transformer.

With x the tokens of the image behind block b, and y those of the latent of a hint through one Linear:

.. math:: x \leftarrow x + s \, W_o \, \mathrm{gelu}(W_i (\mathrm{rms}(x) \, g_x + \mathrm{rms}(y) \, g_y))

Networks for inpainting see the mask of what stays as well: 4 more columns.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import Model
from ..qwen_image import PATCH, QWEN_IMAGE
from .layouts import count_of, shapes_of

__all__ = ["QWEN_DIFFSYNTH"]


def _recognise(header: Header) -> Found | None:
    shapes = shapes_of(header)
    if not {"controlnet_blocks.0.y_rms.weight", "img_in.weight"} <= shapes.keys():
        return None
    dim, columns = shapes["img_in.weight"]
    layers = count_of(shapes, "controlnet_blocks.{}.y_rms.weight")
    config = Config({"denoiser": {"dim": dim, "columns": columns, "num_layers": layers}})
    return Found(config, {"denoiser": ("diffsynth", "")}, "DiffSynth control")


def _misfit(config: Config, model: Model) -> str:
    if model.family.name != QWEN_IMAGE.name:
        return f"it steers Qwen-Image, the model is {model.family.title}"
    own, other = config.denoiser, model.config.denoiser
    width = other.num_attention_heads * other.attention_head_dim
    if own.dim != width or own.num_layers != other.num_layers:
        return (
            f"it steers a Qwen-Image of {own.num_layers} blocks with {own.dim} channels, the model has "
            f"{other.num_layers} with {width}"
        )
    if own.columns not in (model.latent.channels * PATCH**2, (model.latent.channels + 1) * PATCH**2):
        return f"it sees {own.columns} columns, a token of the model's latent has {model.latent.channels * PATCH**2}"
    return ""


QWEN_DIFFSYNTH = Family(
    name="qwen_diffsynth",
    version="1",
    title="DiffSynth control of Qwen-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__package__}.diffsynth_network:build",
            layouts={"diffsynth": lambda config: {"": ""}},
            title="DiffSynth control",
        )
    },
    latent=lambda config: QWEN_IMAGE.latent(Config(denoiser={"out_channels": 16})),
    network=f"{__package__}.diffsynth_network",
    misfit=_misfit,
    acts_within=True,
)
