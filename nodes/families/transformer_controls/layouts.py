"""ControlNets of transformers in files: their configs from the shapes. Imports no torch.

The layout is diffusers'; configs are the arguments of its classes, with `condition_channels`, the columns that see the
hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ..flux.layout import LAYOUTS as FLUX_LAYOUTS

__all__ = [
    "HEAD",
    "Shape",
    "count_of",
    "flux_config",
    "qwen_config",
    "sd3_config",
    "shapes_of",
    "xlabs_config",
    "xlabs_table",
]

Shape = tuple[int, ...]
HEAD = 64
"""Channels of a head of Stable Diffusion 3."""
_BLOCK, _HINT = "controlnet_blocks.0.weight", "controlnet_x_embedder.weight"
_OF_QWEN, _OF_SD3 = "transformer_blocks.0.img_mlp.net.0.proj.weight", "pos_embed_input.proj.weight"


def flux_config(header: Header) -> Config | None:
    """The arguments of FluxControlNetModel; None where it is another file."""
    shapes = shapes_of(header)
    if not {_BLOCK, _HINT, "x_embedder.weight"} <= shapes.keys() or _OF_QWEN in shapes:
        return None
    hidden, head = shapes["x_embedder.weight"][0], shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    mode = shapes.get("controlnet_mode_embedder.weight")
    return Config(
        in_channels=shapes["x_embedder.weight"][1],
        num_layers=count_of(shapes, "transformer_blocks.{}.norm1.linear.weight"),
        num_single_layers=count_of(shapes, "single_transformer_blocks.{}.norm.linear.weight"),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=shapes["context_embedder.weight"][1],
        pooled_projection_dim=shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        guidance_embeds="time_text_embed.guidance_embedder.linear_1.weight" in shapes,
        axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
        num_mode=mode[0] if mode else None,
        condition_channels=shapes[_HINT][1],
    )


def xlabs_config(header: Header) -> Config | None:
    """The arguments of FluxControlNetModel for a network of XLabs, which sees pixels; None where it is another file."""
    shapes = shapes_of(header)
    if not {_BLOCK, "input_hint_block.0.weight", "pos_embed_input.weight", "img_in.weight"} <= shapes.keys():
        return None
    hidden, channels = shapes["img_in.weight"]
    head = shapes["double_blocks.0.img_attn.norm.key_norm.scale"][0]
    return Config(
        patch_size=2,
        in_channels=channels,
        num_layers=count_of(shapes, "double_blocks.{}.img_mod.lin.weight"),
        num_single_layers=0,
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=shapes["txt_in.weight"][1],
        pooled_projection_dim=shapes["vector_in.in_layer.weight"][1],
        guidance_embeds="guidance_in.in_layer.weight" in shapes,
        axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
        num_mode=None,
        conditioning_embedding_channels=shapes["input_hint_block.0.weight"][0],
        condition_channels=channels,
    )


def xlabs_table(config: Config) -> Table:
    """Names are those of FLUX.1's own files, with those of the way in of the hint."""
    table = {key: place for key, place in FLUX_LAYOUTS["bfl"](config).items() if "_out" not in key.split(".")[0]}
    hint = {f"input_hint_block.blocks.{n}": f"input_hint_block.{2 * n + 2}" for n in range(6)}
    ends = {"input_hint_block.conv_in": "input_hint_block.0", "input_hint_block.conv_out": "input_hint_block.14"}
    blocks = {f"controlnet_blocks.{n}": f"controlnet_blocks.{n}" for n in range(config.num_layers)}
    return {**table, **hint, **ends, **blocks, "controlnet_x_embedder": "pos_embed_input"}


def sd3_config(header: Header) -> Config | None:
    """The arguments of SD3ControlNetModel; None where it is another file. Those of Stability for 3.5 large have
    blocks of their own: see `stability.py`."""
    shapes = shapes_of(header)
    text = "context_embedder.weight"
    if not {_BLOCK, _OF_SD3, text, "pos_embed.proj.weight", "pos_embed.pos_embed"} <= shapes.keys():
        return None
    hidden, channels, patch, _ = shapes["pos_embed.proj.weight"]
    layers = count_of(shapes, "transformer_blocks.{}.norm1.linear.weight")
    stated = header.configs.get("", {}).get("attention_head_dim")  # of a folder; no shape shows it
    head = stated if isinstance(stated, int) and stated > 0 and hidden % stated == 0 else HEAD
    return Config(
        patch_size=patch,
        in_channels=channels,
        out_channels=channels,
        num_layers=layers,
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=shapes[text][1],
        caption_projection_dim=shapes[text][0],
        pooled_projection_dim=shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        pos_embed_max_size=round(shapes["pos_embed.pos_embed"][1] ** 0.5),
        extra_conditioning_channels=shapes[_OF_SD3][1] - channels,
        dual_attention_layers=tuple(
            layer for layer in range(layers) if f"transformer_blocks.{layer}.attn2.to_q.weight" in shapes
        ),
        qk_norm="rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in shapes else None,
        condition_channels=shapes[_OF_SD3][1],
    )


def qwen_config(header: Header) -> Config | None:
    """The arguments of QwenImageControlNetModel; None where it is another file."""
    shapes = shapes_of(header)
    if not {_BLOCK, _HINT, _OF_QWEN, "img_in.weight"} <= shapes.keys():
        return None
    hidden, channels = shapes["img_in.weight"]
    head = shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    return Config(
        in_channels=channels,
        num_layers=count_of(shapes, "transformer_blocks.{}.img_mod.1.weight"),
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        joint_attention_dim=shapes["txt_norm.weight"][0],
        axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
        extra_condition_channels=shapes[_HINT][1] - channels,
        condition_channels=shapes[_HINT][1],
    )


def shapes_of(header: Header) -> Mapping[str, Shape]:
    """Of all tensors of a file."""
    return {name: info.shape for name, info in header.tensors.items()}


def count_of(shapes: Mapping[str, Any], name: str) -> int:
    """How many names there are with 0, 1, 2 ... in the place of `{}`."""
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count
