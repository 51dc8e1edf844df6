"""Control networks that do not exist yet: how one begins for a model that it will steer. Imports no torch.

A ControlNet of a U-Net is a copy of the half that goes down (arXiv 2302.05543), one of a transformer a copy of its
first blocks. What its answers pass on their way into the model, and the way in of a latent hint, are zeros at first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphflow import GraphFlowError, Problem

from ..model.config import Config
from ..model.family import Family
from ..model.handles import Model
from .controlnet import CONTROLNET
from .flux import LATENT as FLUX_LATENT
from .kits.unet import PORTS
from .sd3 import LATENT as SD3_LATENT
from .transformer_controls import FLUX_CONTROL, QWEN_CONTROL, SD3_CONTROL

__all__ = ["SHAPES", "NewControl", "new_control_for"]

SHAPES = ("copy", "slim")
HINT_CHANNELS = (16, 32, 96, 256)
"""Of the convolutions that a hint in pixels passes."""
_OF_UNETS = (
    "in_channels",
    "layers_per_block",
    "block_out_channels",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
    "use_linear_projection",
    "transformer_layers_per_block",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "class_embed_type",
    "act_fn",
    "norm_eps",
    "flip_sin_to_cos",
    "freq_shift",
)
_OF_TRANSFORMERS = ("attention_head_dim", "num_attention_heads", "joint_attention_dim")


@dataclass(frozen=True, slots=True)
class NewControl:
    """What a control network will be."""

    family: Family
    config: Config
    """As its family finds it in a file; `denoiser` has the arguments of the class."""
    class_name: str
    """In diffusers."""
    zeros: tuple[str, ...]
    """How the names of the weights begin that are zero at first."""
    stated: Mapping[str, Any]
    """The arguments in its `config.json`."""
    sees_latent: bool = True
    """The hint is a latent, not an image."""


def new_control_for(model: Model, shape: str = "copy", layers: int = 0, single_layers: int = 0) -> NewControl:
    """`shape`, of a U-Net: `copy` has all blocks of the half that goes down, `slim` its residual blocks alone, as the
    small ControlNets of SDXL. `layers` and `single_layers`, of a transformer: the number of blocks that are copied; 0
    is what diffusers takes (12 of Stable Diffusion 3, 4 and 10 of FLUX.1, 5 of Qwen-Image), at most all.

    Raises a Problem where no ControlNet is trained for the model's family, or it has fewer blocks.
    """
    if model.family.ports.residuals == PORTS.residuals:
        return _of_unet(model, shape)
    make = _TRANSFORMERS.get(model.family.name)
    if make is None:
        message = (
            "ControlNets are trained for Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, FLUX.1 and Qwen-Image, "
            f"the model is {model.family.title}"
        )
        raise GraphFlowError([Problem("not_trainable", message, input="model")])
    return make(model.config.denoiser, layers, single_layers)


def _of_unet(model: Model, shape: str) -> NewControl:
    denoiser, slim = model.config.denoiser, shape == "slim"
    found = {name: denoiser[name] for name in _OF_UNETS if denoiser.get(name) is not None}
    kinds = tuple(kind.replace("CrossAttn", "") if slim else kind for kind in denoiser.down_block_types)
    middle = "UNetMidBlock2D" if slim else denoiser.get("mid_block_type") or "UNetMidBlock2DCrossAttn"
    hint = HINT_CHANNELS if min(denoiser.block_out_channels) >= 128 else tuple(size // 4 for size in HINT_CHANNELS)
    blocks = {"down_block_types": kinds, "mid_block_type": middle}
    stated = {**found, "conditioning_channels": 3, **blocks, "conditioning_embedding_out_channels": hint}
    latent = {"channels": denoiser.in_channels, "factor": model.latent.factor}
    return NewControl(
        CONTROLNET,
        Config({"denoiser": Config(stated, out_channels=denoiser.out_channels), "latent": latent}),
        "ControlNetModel",
        ("controlnet_down_blocks.", "controlnet_mid_block.", "controlnet_cond_embedding.conv_out."),
        stated,
        sees_latent=False,
    )


def _of_sd3(denoiser: Config, layers: int, single_layers: int) -> NewControl:
    count = _count(layers, 12, denoiser.num_layers, "layers")
    names = (
        "patch_size",
        "in_channels",
        "out_channels",
        "caption_projection_dim",
        "pooled_projection_dim",
        "pos_embed_max_size",
        "qk_norm",
    )
    stated = _shared(denoiser, *names) | {
        "num_layers": count,
        "dual_attention_layers": tuple(at for at in denoiser.get("dual_attention_layers") or () if at < count),
        "extra_conditioning_channels": 0,
        "force_zeros_for_pooled_projection": False,  # it learns with the pooled text and the shifted latent
    }
    own = Config({"denoiser": Config(stated, condition_channels=denoiser.in_channels), "latent": SD3_LATENT})
    return NewControl(SD3_CONTROL, own, "SD3ControlNetModel", ("controlnet_blocks.", "pos_embed_input."), stated)


def _of_flux(denoiser: Config, layers: int, single_layers: int) -> NewControl:
    if denoiser.in_channels != denoiser.out_channels:
        message = "the model sees an image beside the latent, and no ControlNets are trained for such models"
        raise GraphFlowError([Problem("not_trainable", message, input="model", hint="take FLUX.1 dev or schnell")])
    stated = _shared(denoiser, "in_channels", "pooled_projection_dim", "guidance_embeds", "axes_dims_rope") | {
        "num_layers": _count(layers, 4, denoiser.num_layers, "layers"),
        "num_single_layers": _count(single_layers, 10, denoiser.num_single_layers, "single_layers"),
        "num_mode": None,
    }
    own = Config({"denoiser": Config(stated, condition_channels=denoiser.in_channels), "latent": FLUX_LATENT})
    zeros = ("controlnet_blocks.", "controlnet_single_blocks.", "controlnet_x_embedder.")
    return NewControl(FLUX_CONTROL, own, "FluxControlNetModel", zeros, stated)


def _of_qwen(denoiser: Config, layers: int, single_layers: int) -> NewControl:
    stated = _shared(denoiser, "in_channels", "out_channels", "axes_dims_rope") | {
        "num_layers": _count(layers, 5, denoiser.num_layers, "layers"),
        "extra_condition_channels": 0,
    }
    own = Config(denoiser=Config(stated, condition_channels=denoiser.in_channels))
    zeros = ("controlnet_blocks.", "controlnet_x_embedder.")
    return NewControl(QWEN_CONTROL, own, "QwenImageControlNetModel", zeros, stated)


_TRANSFORMERS: Mapping[str, Callable[[Config, int, int], NewControl]] = {
    "sd3": _of_sd3,
    "flux": _of_flux,
    "qwen_image": _of_qwen,
}


def _shared(denoiser: Config, *names: str) -> dict[str, Any]:
    return {name: denoiser[name] for name in (*_OF_TRANSFORMERS, *names) if name in denoiser}


def _count(asked: int, usual: int, there: int, input: str) -> int:
    if asked > there:
        message = f"{asked} blocks shall be copied, the model has {there} of this kind"
        raise GraphFlowError(
            [Problem("too_many_blocks", message, input=input, hint=f"set it to at most {there}, or 0")]
        )
    return asked or min(usual, there)
