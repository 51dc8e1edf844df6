"""LongCat-Image and LongCat-Image-Edit of Meituan: the blocks of FLUX.1, asked with Qwen2.5-VL 7B.

Latents are those of FLUX's VAE. Images to edit are further tokens. Both models have the same tensors, so a file does
not show which it is. Layouts: the original names (with `scale` or `weight` for the norms) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..kits import qwen25_vl
from ..kits.flow import FLUX_LATENT, DenoiserFound, assemble, latent_format
from ..kits.flux_blocks import blocks, config_of, feed_forward, norm_of, outer
from ..kits.transformer_file import transformer_in

__all__ = ["LONGCAT"]

TIME = "time_embed.timestep_embedder"


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    keys, norm = file.keys, norm_of(file.keys)
    # Of the transformers with the original blocks it alone has a plain text and neither a vector of it nor guidance.
    others = (
        "vector_in.in_layer.weight",
        "double_stream_modulation_img.lin.weight",
        "double_blocks.0.img_mlp.gate_proj.weight",
    )
    if norm and keys.has("txt_in.weight", "time_in.in_layer.weight") and not any(keys.has(name) for name in others):
        config = config_of(keys, "txt_in")
    elif keys.has(f"{TIME}.linear_1.weight", "single_transformer_blocks.0.proj_mlp.weight"):
        config = config_of(keys, "context_embedder")
    else:
        return None
    place = DenoiserFound(config, norm or "diffusers", file.prefix)
    return assemble(header, place, {"text.qwen25vl": qwen25_vl.find(header)}, FLUX_LATENT)


def _original(config: Config, norm: str) -> Table:
    hidden = config.num_attention_heads * config.attention_head_dim
    whole = {**blocks(config, norm, 4 * hidden), **feed_forward(config)}
    return outer(TIME) | {"context_embedder": "txt_in", **whole}


def _layout(norm: str) -> Callable[[Config], Table]:
    return lambda config: _original(config, norm)


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    **{norm: _layout(norm) for norm in ("scale", "weight")},
    "diffusers": lambda config: {"": ""},
}
LONGCAT = Family(
    name="longcat",
    version="1",
    title="LongCat-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(build=f"{__name__}.network:build", layouts=LAYOUTS, title="transformer"),
        "text.qwen25vl": qwen25_vl.PART,
    },
    latent=latent_format,
    prediction=lambda config: FluxFlow(1.15),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"longcat_image": [("qwen25vl",)]},
    text_width=lambda config: int(config["text.qwen25vl"].text.hidden_size),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "references": Option("latent"),
        "reference_method": Option("name"),
        "guidance": Option("number"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*", "single_transformer_blocks.*")),
)
"""`guidance` is accepted and has no effect: templates carry FluxGuidance, and the network has no input for it."""
