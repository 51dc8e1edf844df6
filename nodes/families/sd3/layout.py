"""The files of Stable Diffusion 3: configs from shapes, and where each parameter lies. Imports no torch.

Layouts: `mmdit` (the original names, in which q, k and v are one tensor) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.known.keys import Keys
from ...model.config import Config
from ..kits.transformer_file import TransformerFile

__all__ = ["LAYOUTS", "config_of", "layout_of"]

HEAD = 64
"""Channels of a head in all published models; files without norms of q and k do not state it."""
_ARGUMENTS = (
    "sample_size",
    "patch_size",
    "in_channels",
    "num_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "caption_projection_dim",
    "pooled_projection_dim",
    "out_channels",
    "pos_embed_max_size",
    "dual_attention_layers",
    "qk_norm",
)
_DEFAULTS = {
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 18,
    "attention_head_dim": 64,
    "num_attention_heads": 18,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1152,
    "pooled_projection_dim": 2048,
    "out_channels": 16,
    "pos_embed_max_size": 96,
}


def layout_of(keys: Keys) -> str:
    """The layout of the transformer; "" where it is not one of Stable Diffusion 3."""
    if keys.has("joint_blocks.0.context_block.attn.qkv.weight", "x_embedder.proj.weight", "pos_embed"):
        return "mmdit"
    is_diffusers = keys.has(
        "transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight", "pos_embed.pos_embed"
    )
    return "diffusers" if is_diffusers else ""


def config_of(file: TransformerFile) -> Config:
    """The arguments of SD3Transformer2DModel."""
    if file.stated:
        return Config({**_DEFAULTS, **{key: file.stated[key] for key in _ARGUMENTS if key in file.stated}})
    keys = file.keys
    return _of_mmdit(keys) if layout_of(keys) == "mmdit" else _of_diffusers(keys)


def _of_mmdit(keys: Keys) -> Config:
    count = keys.count("joint_blocks.")
    return _config(
        keys,
        {
            "patch": "x_embedder.proj",
            "places": "pos_embed",
            "text": "context_embedder",
            "pooled": "y_embedder.mlp.0",
            "norm": "joint_blocks.0.x_block.attn.ln_q",
        },
        count,
        [layer for layer in range(count) if keys.has(f"joint_blocks.{layer}.x_block.attn2.qkv.weight")],
    )


def _of_diffusers(keys: Keys) -> Config:
    count = keys.count("transformer_blocks.")
    return _config(
        keys,
        {
            "patch": "pos_embed.proj",
            "places": "pos_embed.pos_embed",
            "text": "context_embedder",
            "pooled": "time_text_embed.text_embedder.linear_1",
            "norm": "transformer_blocks.0.attn.norm_q",
        },
        count,
        [layer for layer in range(count) if keys.has(f"transformer_blocks.{layer}.attn2.to_q.weight")],
    )


def _config(keys: Keys, names: Mapping[str, str], count: int, dual: list[int]) -> Config:
    patch = keys.shape(f"{names['patch']}.weight")
    head = keys.rows(f"{names['norm']}.weight")
    out = "final_layer.linear" if names["places"] == "pos_embed" else "proj_out"
    return Config(
        patch_size=patch[-1],
        in_channels=patch[1],
        out_channels=keys.rows(f"{out}.weight") // patch[-1] ** 2,
        num_layers=count,
        attention_head_dim=head or HEAD,
        num_attention_heads=patch[0] // (head or HEAD),
        joint_attention_dim=keys.columns(f"{names['text']}.weight"),
        caption_projection_dim=keys.rows(f"{names['text']}.weight"),
        pooled_projection_dim=keys.columns(f"{names['pooled']}.weight"),
        pos_embed_max_size=isqrt(keys.shape(names["places"])[1]),
        dual_attention_layers=dual,
        qk_norm="rms_norm" if head else None,
    )


def _mmdit(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {
        "pos_embed.pos_embed": TensorPlace("pos_embed"),
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "context_embedder": "context_embedder",
        "proj_out": "final_layer.linear",
        **_swapped("norm_out.linear", "final_layer.adaLN_modulation.1"),
    }
    for layer in range(config.num_layers):
        table |= _block(config, layer)
    return table


def _block(config: Config, layer: int) -> Table:
    here, there = f"transformer_blocks.{layer}", f"joint_blocks.{layer}"
    width = config.num_attention_heads * config.attention_head_dim
    table: dict[str, TensorPlace | str] = {
        f"{here}.norm1.linear": f"{there}.x_block.adaLN_modulation.1",
        f"{here}.norm1_context.linear": f"{there}.context_block.adaLN_modulation.1",
    }
    if layer == config.num_layers - 1:  # the last block drops the text, so its modulation is that of an output
        table |= _swapped(f"{here}.norm1_context.linear", f"{there}.context_block.adaLN_modulation.1")
    for side, attention, names, out, ff, added in (
        ("x_block", "attn", ("to_q", "to_k", "to_v"), "to_out.0", "ff", ""),
        ("x_block", "attn2", ("to_q", "to_k", "to_v"), "to_out.0", "ff", ""),
        ("context_block", "attn", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context", "added_"),
    ):
        module, place = f"{here}.{attention}", f"{there}.{side}.attn{attention.removeprefix('attn')}"
        for third, name in enumerate(names):
            for kind in ("weight", "bias"):
                table[f"{module}.{name}.{kind}"] = TensorPlace(
                    f"{place}.qkv.{kind}", (third * width, (third + 1) * width)
                )
        table |= {
            f"{module}.{out}": f"{place}.proj",
            f"{module}.norm_{added}q": f"{place}.ln_q",
            f"{module}.norm_{added}k": f"{place}.ln_k",
            f"{here}.{ff}.net.0.proj": f"{there}.{side}.mlp.fc1",
            f"{here}.{ff}.net.2": f"{there}.{side}.mlp.fc2",
        }
    return table


def _swapped(module: str, name: str) -> dict[str, Any]:
    return {f"{module}.{kind}": TensorPlace(f"{name}.{kind}", form="swapped") for kind in ("weight", "bias")}


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"mmdit": _mmdit, "diffusers": lambda config: {"": ""}}
