"""The files of FLUX.1: configs from shapes, and where each parameter lies. Imports no torch.

Layouts: `bfl` (the original names, in which q, k and v are one tensor), `bfl_weight` (the same with `.weight` for the
`.scale` of the norms) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table
from ...files.known.keys import Keys
from ...model.config import Config
from ..kits.flux_blocks import blocks, feed_forward, norm_of, outer
from ..kits.flux_blocks import config_of as shared_config
from ..kits.transformer_file import TransformerFile

__all__ = ["LAYOUTS", "config_of", "is_flux", "layout_of"]

DIFFUSERS = "transformer_blocks.0.attn.add_q_proj.weight"
_ARGUMENTS = (
    "patch_size",
    "in_channels",
    "out_channels",
    "num_layers",
    "num_single_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "pooled_projection_dim",
    "guidance_embeds",
    "axes_dims_rope",
)
_DEFAULTS = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": False,
    "axes_dims_rope": (16, 56, 56),
}


def layout_of(keys: Keys) -> str:
    """The layout of a transformer of FLUX's kind; "" where it is not one."""
    norm = norm_of(keys)
    if norm:
        return "bfl" if norm == "scale" else "bfl_weight"
    return "diffusers" if keys.has(DIFFUSERS, "single_transformer_blocks.0.proj_mlp.weight") else ""


def is_flux(keys: Keys) -> bool:
    """Whether it is FLUX.1: families with its blocks lack its vector of the text, or have others for its parts."""
    if layout_of(keys).startswith("bfl"):
        others = ("double_stream_modulation_img.lin.weight", "double_blocks.0.img_mlp.gate_proj.weight")
        return keys.has("vector_in.in_layer.weight") and not any(keys.has(name) for name in others)
    return layout_of(keys) == "diffusers" and keys.has("time_text_embed.text_embedder.linear_1.weight")


def config_of(file: TransformerFile) -> Config:
    """The arguments of FluxTransformer2DModel."""
    keys, stated = file.keys, file.stated
    if stated:
        kept = {**_DEFAULTS, **{key: stated[key] for key in _ARGUMENTS if key in stated}}
        return Config({**kept, "out_channels": kept.get("out_channels") or kept["in_channels"]})
    text, vector, out, guidance = _ORIGINAL if layout_of(keys).startswith("bfl") else _NAMES
    return shared_config(keys, text) | Config(
        out_channels=keys.rows(f"{out}.weight"),
        pooled_projection_dim=keys.columns(f"{vector}.weight"),
        guidance_embeds=keys.has(f"{guidance}.weight"),
    )


_ORIGINAL = ("txt_in", "vector_in.in_layer", "final_layer.linear", "guidance_in.in_layer")
_NAMES = (
    "context_embedder",
    "time_text_embed.text_embedder.linear_1",
    "proj_out",
    "time_text_embed.guidance_embedder.linear_1",
)


def _bfl(config: Config, norm: str = "scale") -> Table:
    hidden = config.num_attention_heads * config.attention_head_dim
    table = outer("time_text_embed.timestep_embedder") | {"context_embedder": "txt_in"}
    for module, name in (("text", "vector_in"), ("guidance", "guidance_in")):
        table[f"time_text_embed.{module}_embedder.linear_1"] = f"{name}.in_layer"
        table[f"time_text_embed.{module}_embedder.linear_2"] = f"{name}.out_layer"
    return {**table, **blocks(config, norm, 4 * hidden), **feed_forward(config)}


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "bfl": _bfl,
    "bfl_weight": lambda config: _bfl(config, "weight"),
    "diffusers": lambda config: {"": ""},
}
