"""Chroma1 of Lodestone Rock (2025): FLUX.1 schnell with a small network that makes its modulations, asked with T5
alone.

It has no guidance by a number, so it is asked with a negative. Chroma Radiance, which works on pixels, is another
model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...files.known.keys import Keys
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..flux import LATENT
from ..kits import t5
from ..kits.flow import DenoiserFound, assemble, latent_format
from ..kits.flux_blocks import blocks, config_of, feed_forward, norm_of
from ..kits.transformer_file import TransformerFile, text_prefix, transformer_in

__all__ = ["CHROMA"]

_ARGUMENTS = (
    "in_channels",
    "num_layers",
    "num_single_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "axes_dims_rope",
    "approximator_num_channels",
    "approximator_hidden_dim",
    "approximator_layers",
)


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    kind = _layout(file.keys)
    if not kind:
        return None
    texts = {"text.t5": t5.find(header, text_prefix("t5xxl"), "text_encoder")}
    return assemble(header, DenoiserFound(_config(file), kind, file.prefix), texts, LATENT)


def _layout(keys: Keys) -> str:
    if not keys.has("distilled_guidance_layer.in_proj.weight"):
        return ""
    if norm_of(keys) == "scale" and keys.has("img_in.weight", "final_layer.linear.weight"):
        return "original"
    return "diffusers" if keys.has("x_embedder.weight", "transformer_blocks.0.attn.norm_q.weight") else ""


def _config(file: TransformerFile) -> Config:
    """The arguments of ChromaTransformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    found = config_of(keys, "txt_in" if _layout(keys) == "original" else "context_embedder") | Config(
        approximator_num_channels=keys.columns("distilled_guidance_layer.in_proj.weight"),
        approximator_hidden_dim=keys.rows("distilled_guidance_layer.in_proj.weight"),
        approximator_layers=keys.count("distilled_guidance_layer.layers."),
    )
    return found | {key: stated[key] for key in _ARGUMENTS if key in stated}


def _original(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
        "proj_out": "final_layer.linear",
        "distilled_guidance_layer": "distilled_guidance_layer",
    }
    for layer in range(config.approximator_layers):
        begin = "distilled_guidance_layer"
        table[f"{begin}.layers.{layer}.linear_1"] = f"{begin}.layers.{layer}.in_layer"
        table[f"{begin}.layers.{layer}.linear_2"] = f"{begin}.layers.{layer}.out_layer"
        table[f"{begin}.norms.{layer}.weight"] = TensorPlace(f"{begin}.norms.{layer}.scale")
    hidden = config.num_attention_heads * config.attention_head_dim
    return {**table, **blocks(config, "scale", 4 * hidden, modulated=False), **feed_forward(config)}


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"original": _original, "diffusers": lambda config: {"": ""}}

CHROMA = Family(
    name="chroma",
    version="1",
    title="Chroma",
    recognise=_recognise,
    parts={
        "denoiser": Part(build=f"{__name__}.network:build", layouts=LAYOUTS, title="transformer"),
        "text.t5": t5.PART,
    },
    latent=latent_format,
    prediction=lambda config: FluxFlow(1.15),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"chroma": [("t5",)]},
    text_width=lambda config: int(config["text.t5"].d_model),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "guidance": Option("number"),  # of nodes made for FLUX.1; it has no effect
        "no_guidance": Option("number"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*", "single_transformer_blocks.*")),
)
