"""Ovis-Image: the blocks of FLUX.1 with gated feed-forward networks, asked with Ovis 2.5 (Qwen3 2B).

Latents are those of FLUX's VAE. Layouts: the original names (with `scale` or `weight` for the norms) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..kits import language_model
from ..kits.flow import FLUX_LATENT, DenoiserFound, assemble, latent_format
from ..kits.flux_blocks import blocks, config_of, norm_of, outer, rows_of
from ..kits.transformer_file import transformer_in

__all__ = ["OVIS"]

TEXT, TEXT_NORM = "semantic_txt_in", "semantic_txt_norm.weight"


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    norm = norm_of(file.keys)
    if norm and file.keys.has("double_blocks.0.img_mlp.gate_proj.weight", TEXT_NORM):
        config = config_of(file.keys, TEXT)
    elif file.keys.has("context_embedder_norm.weight", "single_transformer_blocks.0.proj_mlp.weight"):
        config = config_of(file.keys, "context_embedder")
    else:
        return None
    place = DenoiserFound(config, norm or "diffusers", file.prefix)
    return assemble(header, place, {"text.qwen3": language_model.find_beside(header, "qwen3")}, FLUX_LATENT)


def _original(config: Config, norm: str) -> Table:
    hidden = config.num_attention_heads * config.attention_head_dim
    inner = 4 * hidden
    table = outer("timestep_embedder") | {
        "context_embedder": TEXT,
        "context_embedder_norm.weight": TensorPlace(TEXT_NORM),
        **blocks(config, norm, 2 * inner),
    }
    for layer in range(config.num_layers):
        for module, side in (("ff", "img"), ("ff_context", "txt")):
            here, there = f"transformer_blocks.{layer}.{module}.net", f"double_blocks.{layer}.{side}_mlp"
            table |= {
                f"{here}.2": f"{there}.down_proj",
                f"{here}.0.proj.up": f"{there}.up_proj",
                f"{here}.0.proj.gate": f"{there}.gate_proj",
            }
    return table


def _diffusers(config: Config) -> Table:
    """The two Linears at the entry of a feed-forward network are one tensor."""
    inner = 4 * config.num_attention_heads * config.attention_head_dim
    table: dict[str, TensorPlace | str] = {"": ""}
    for layer in range(config.num_layers):
        for module in ("ff", "ff_context"):
            here = f"transformer_blocks.{layer}.{module}.net.0.proj"
            table |= rows_of(here, ("up", "gate"), here, (inner, inner))
    return table


def _layout(norm: str) -> Callable[[Config], Table]:
    return lambda config: _original(config, norm)


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    **{norm: _layout(norm) for norm in ("scale", "weight")},
    "diffusers": _diffusers,
}
OVIS = Family(
    name="ovis",
    version="1",
    title="Ovis-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(build=f"{__name__}.network:build", layouts=LAYOUTS, title="transformer"),
        "text.qwen3": language_model.part_of("qwen3"),
    },
    latent=latent_format,
    prediction=lambda config: FluxFlow(1.15),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"ovis": [("qwen3",)]},
    text_width=lambda config: int(config["text.qwen3"].hidden_size),
    takes={"text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim))},
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*", "single_transformer_blocks.*")),
)
