"""The files of FLUX.1: configs from shapes, and where each parameter lies. Imports no torch.

Layouts: `bfl` (the original names, in which q, k and v are one tensor), `bfl_weight` (the same with `.weight` for the
`.scale` of the norms) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.known.keys import Keys
from ...model.config import Config
from ..kits.transformer_file import TransformerFile

__all__ = ["LAYOUTS", "blocks_table", "config_of", "is_flux", "layout_of", "rope_axes"]

NORM = "double_blocks.0.img_attn.norm.query_norm"
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
    if keys.has(f"{NORM}.scale"):
        return "bfl"
    if keys.has(f"{NORM}.weight"):
        return "bfl_weight"
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
    return _of_bfl(keys) if layout_of(keys).startswith("bfl") else _of_diffusers(keys)


def _of_bfl(keys: Keys) -> Config:
    hidden, head = keys.rows("img_in.weight"), keys.rows(f"{NORM}.scale") or keys.rows(f"{NORM}.weight")
    return Config(
        in_channels=keys.columns("img_in.weight"),
        out_channels=keys.rows("final_layer.linear.weight"),
        num_layers=keys.count("double_blocks."),
        num_single_layers=keys.count("single_blocks."),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=keys.columns("txt_in.weight"),
        pooled_projection_dim=keys.columns("vector_in.in_layer.weight"),
        guidance_embeds=keys.has("guidance_in.in_layer.weight"),
        axes_dims_rope=rope_axes(head),
    )


def _of_diffusers(keys: Keys) -> Config:
    hidden, head = keys.rows("x_embedder.weight"), keys.rows("transformer_blocks.0.attn.norm_q.weight")
    return Config(
        in_channels=keys.columns("x_embedder.weight"),
        out_channels=keys.rows("proj_out.weight"),
        num_layers=keys.count("transformer_blocks."),
        num_single_layers=keys.count("single_transformer_blocks."),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=keys.columns("context_embedder.weight"),
        pooled_projection_dim=keys.columns("time_text_embed.text_embedder.linear_1.weight"),
        guidance_embeds=keys.has("time_text_embed.guidance_embedder.linear_1.weight"),
        axes_dims_rope=rope_axes(head),
    )


def rope_axes(head: int) -> tuple[int, int, int]:
    """How the channels of a head are shared out to index, row and column: 16, 56, 56 of 128."""
    side = head * 7 // 16
    return head - 2 * side, side, side


def _bfl(config: Config, norm: str = "scale") -> Table:
    table: dict[str, TensorPlace | str] = {
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
        "proj_out": "final_layer.linear",
        "norm_out.linear.weight": TensorPlace("final_layer.adaLN_modulation.1.weight", form="swapped"),
        "norm_out.linear.bias": TensorPlace("final_layer.adaLN_modulation.1.bias", form="swapped"),
    }
    for module, name in (("timestep", "time_in"), ("text", "vector_in"), ("guidance", "guidance_in")):
        table[f"time_text_embed.{module}_embedder.linear_1"] = f"{name}.in_layer"
        table[f"time_text_embed.{module}_embedder.linear_2"] = f"{name}.out_layer"
    for layer in range(config.num_layers):
        here, there = f"transformer_blocks.{layer}", f"double_blocks.{layer}"
        table |= {
            f"{here}.norm1.linear": f"{there}.img_mod.lin",
            f"{here}.norm1_context.linear": f"{there}.txt_mod.lin",
        }
    for layer in range(config.num_single_layers):
        table[f"single_transformer_blocks.{layer}.norm.linear"] = f"single_blocks.{layer}.modulation.lin"
    return {**table, **blocks_table(config, norm)}


def blocks_table(config: Config, norm: str) -> Table:
    """The blocks without what modulates them: also of Chroma, which has the same."""
    hidden = config.num_attention_heads * config.attention_head_dim
    table: dict[str, TensorPlace | str] = {}
    for layer in range(config.num_layers):
        here, there = f"transformer_blocks.{layer}", f"double_blocks.{layer}"
        for side, names, out, ff, added in (
            ("img", ("to_q", "to_k", "to_v"), "to_out.0", "ff", ""),
            ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context", "added_"),
        ):
            table |= _rows(f"{here}.attn", names, f"{there}.{side}_attn.qkv", (hidden,) * 3)
            table |= {
                f"{here}.attn.{out}": f"{there}.{side}_attn.proj",
                f"{here}.{ff}.net.0.proj": f"{there}.{side}_mlp.0",
                f"{here}.{ff}.net.2": f"{there}.{side}_mlp.2",
                f"{here}.attn.norm_{added}q.weight": TensorPlace(f"{there}.{side}_attn.norm.query_norm.{norm}"),
                f"{here}.attn.norm_{added}k.weight": TensorPlace(f"{there}.{side}_attn.norm.key_norm.{norm}"),
            }
    for layer in range(config.num_single_layers):
        here, there = f"single_transformer_blocks.{layer}", f"single_blocks.{layer}"
        fused = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        table |= _rows(here, fused, f"{there}.linear1", (hidden, hidden, hidden, 4 * hidden))
        table |= {
            f"{here}.proj_out": f"{there}.linear2",
            f"{here}.attn.norm_q.weight": TensorPlace(f"{there}.norm.query_norm.{norm}"),
            f"{here}.attn.norm_k.weight": TensorPlace(f"{there}.norm.key_norm.{norm}"),
        }
    return table


def _rows(module: str, names: tuple[str, ...], key: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Linears that are one tensor in the file, in this order."""
    table, begin = {}, 0
    for name, size in zip(names, sizes, strict=True):
        for kind in ("weight", "bias"):
            table[f"{module}.{name}.{kind}"] = TensorPlace(f"{key}.{kind}", (begin, begin + size))
        begin += size
    return table


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "bfl": _bfl,
    "bfl_weight": lambda config: _bfl(config, "weight"),
    "diffusers": lambda config: {"": ""},
}
