"""ControlNets of Stability for Stable Diffusion 3.5 large (blur, canny, depth).

Such a network has blocks of one stream, which see no text, and takes the first layer of the transformer that it steers:
its places and its patches. So it exists only together with a model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...files.convert import Table, TensorPlace
from ...files.header import Header, read_header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import ControlNet, Model
from ...patches.control_lora import OverBase
from ..kits.flow import latent_format
from ..sd3 import LATENT
from .layouts import HEAD, count_of, shapes_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STABILITY_CONTROL"]

TYPE, CANNY = "control_type", 1
"""The tensor that states what a network sees, and its number for edges. (0 is a blurred image, 2 depth.)"""
_INPUT, _OWN = "pos_embed_input.proj.weight", "transformer_blocks.0.adaLN_modulation.1.weight"


def _recognise(header: Header) -> Found | None:
    shapes = shapes_of(header)
    if not {"controlnet_blocks.0.weight", _INPUT} <= shapes.keys() or "context_embedder.weight" in shapes:
        return None
    layout = "stability" if _OWN in shapes else "diffusers"
    pooled, block = {
        "stability": ("y_embedder.mlp.0.weight", "transformer_blocks.{}.adaLN_modulation.1.weight"),
        "diffusers": ("time_text_embed.text_embedder.linear_1.weight", "transformer_blocks.{}.norm1.linear.weight"),
    }[layout]
    hidden, channels, patch, _ = shapes[_INPUT]
    denoiser = Config(
        patch_size=patch,
        in_channels=LATENT["channels"],
        out_channels=LATENT["channels"],
        num_layers=count_of(shapes, block),
        attention_head_dim=HEAD,
        num_attention_heads=hidden // HEAD,
        joint_attention_dim=None,
        caption_projection_dim=hidden,
        pooled_projection_dim=shapes[pooled][1],
        extra_conditioning_channels=channels - LATENT["channels"],
        condition_channels=channels,
        force_zeros_for_pooled_projection=False,
    )
    config = Config({"denoiser": denoiser, "latent": LATENT, "sees_edges": "canny" in header.path.stem.lower()})
    return Found(config, {"denoiser": (layout, "")}, "3.5 large (Stability)")


def _misfit(config: Config, model: Model) -> str:
    if model.family.name != "sd3":
        return f"it steers Stable Diffusion 3.5 large, the model is {model.family.title}"
    own, other = config.denoiser, model.config.denoiser
    width, its = own.num_attention_heads * HEAD, other.num_attention_heads * other.attention_head_dim
    if width != its or own.patch_size != other.patch_size:
        return f"it steers another Stable Diffusion 3 (channels of a block: {width}, the model's has {its})"
    return ""


def _completed(control: ControlNet, model: Model) -> ControlNet:
    """With the first layer of the model, and whether it sees edges where its file states it."""
    from ...files.tensors import TensorReader

    source, config = control.source("denoiser"), control.config
    header = read_header(Path(source.path))
    if TYPE in header.tensors:
        with TensorReader(header) as reader:
            config = config | {"sees_edges": int(reader.get(TYPE).flatten()[0]) == CANNY}
    denoiser = config.denoiser | {"pos_embed_max_size": model.config.denoiser.pos_embed_max_size}
    patch = OverBase(model, source, (("", ""),), only="pos_embed.")
    return replace(control, config=config | {"denoiser": denoiser}).with_patch(patch)


def _seen(config: Config, images: Tensor) -> Tensor:
    """Edges were shown to the VAE in training as 127.5 x + 0.5, not as 2 x - 1, of x in 0..1."""
    return (127.5 * images + 1.5) / 2.0 if config.sees_edges else images


def _stability_table(config: Config) -> Table:
    width = config.num_attention_heads * config.attention_head_dim
    table: dict[str, TensorPlace | str] = {"": ""}
    for ours, theirs in (("timestep_embedder", "t_embedder"), ("text_embedder", "y_embedder")):
        table |= {f"time_text_embed.{ours}.linear_{n + 1}": f"{theirs}.mlp.{2 * n}" for n in range(2)}
    for layer in range(config.num_layers):
        here = f"transformer_blocks.{layer}"
        for third, name in enumerate(("to_q", "to_k", "to_v")):
            rows = (third * width, (third + 1) * width)
            for kind in ("weight", "bias"):
                table[f"{here}.attn.{name}.{kind}"] = TensorPlace(f"{here}.attn.qkv.{kind}", rows)
        table |= {
            f"{here}.attn.to_out.0": f"{here}.attn.proj",
            f"{here}.norm1.linear": f"{here}.adaLN_modulation.1",
            f"{here}.ff.net.0.proj": f"{here}.mlp.fc1",
            f"{here}.ff.net.2": f"{here}.mlp.fc2",
        }
    return table


STABILITY_CONTROL = Family(
    name="stability_control",
    version="1",
    title="ControlNet of Stable Diffusion 3.5 large",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__package__}.sd3:build",
            layouts={"diffusers": lambda config: {"": ""}, "stability": _stability_table},
            title="ControlNet",
            unused=(TYPE,),
            optional=("pos_embed.*",),
        )
    },
    latent=latent_format,
    network=f"{__package__}.sd3",
    misfit=_misfit,
    completed=_completed,
    seen=_seen,
)
