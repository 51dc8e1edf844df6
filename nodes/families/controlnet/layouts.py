"""ControlNets in files: their config from the shapes, and the tables of their layouts. Imports no torch.

Configs are the arguments of diffusers' ControlNetModel, or of ControlNetUnionModel where `num_control_type` is among
them. Layouts: `ldm` (with the prefix `control_model.`, or without) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ..kits import unet

__all__ = ["LAYOUTS", "UNUSED", "find", "has_attention", "is_difference", "variant"]

Shape = tuple[int, ...]
UNUSED = ("difference", "lora_controlnet")
POOLED = ("_shuffle", "_shuffle_fp16")
"""Endings of names of files whose answers are averaged over the image: nothing in the file states it."""
HINT_BLOCKS = 6
HEADS = 8
"""Of the attention between the images of a union."""


def find(header: Header) -> unet.UnetFound | None:
    """The ControlNet in a file or a folder; None where there is none."""
    stated = header.configs.get("")
    if stated is not None and stated.get("_class_name") == "ControlNetModel":
        return unet.UnetFound(_complete(unet.from_json(stated), _shapes(header, ""), "diffusers"), "diffusers", "")
    for layout, prefix, mark in (
        ("ldm", "control_model.", "zero_convs.0.0.weight"),
        ("ldm", "", "zero_convs.0.0.weight"),
        ("diffusers", "", "controlnet_cond_embedding.conv_in.weight"),
    ):
        if prefix + mark not in header.tensors or "lora_controlnet" in header.tensors:
            continue
        shapes = _shapes(header, prefix)
        config = unet.encoder_config(layout, shapes)
        if config is not None:
            pooled = header.path.stem.endswith(POOLED)
            added = {"global_pool_conditions": True} if pooled else {}
            return unet.UnetFound(_complete(Config({**config, **added}), shapes, layout), layout, prefix)
    return None


def is_difference(header: Header) -> bool:
    """Whether the file holds differences to the weights of a model, to be added to them."""
    return "difference" in header.tensors


def has_attention(config: Config) -> bool:
    """Small ControlNets of SDXL have residual blocks alone, and so no use for a text."""
    return config.get("mid_block_type") != "UNetMidBlock2D"


def variant(config: Config) -> str:
    """As people call it."""
    types = config.get("num_control_type")
    return f"union of {types} types" if types else ""


def _shapes(header: Header, prefix: str) -> Mapping[str, Shape]:
    length = len(prefix)
    return {name[length:]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}


def _complete(config: Config, shapes: Mapping[str, Shape], layout: str) -> Config:
    """The config of a half U-Net with what a ControlNet has besides."""
    hint = {"ldm": "input_hint_block", "diffusers": "controlnet_cond_embedding"}[layout]
    places = ("0", "4", "8", "12") if layout == "ldm" else ("conv_in", "blocks.1", "blocks.3", "blocks.5")
    widths = [shapes[f"{hint}.{place}.weight"] for place in places]
    found: dict[str, Any] = {
        **config,
        "out_channels": config.in_channels,
        "conditioning_channels": widths[0][1],
        "conditioning_embedding_out_channels": [shape[0] for shape in widths],
    }
    middle = {"ldm": "middle_block.1.norm.weight", "diffusers": "mid_block.attentions.0.norm.weight"}[layout]
    if middle not in shapes:
        found["mid_block_type"] = "UNetMidBlock2D"
    if found.get("class_embed_type") and "class_embedding.linear_1.weight" not in shapes:  # SDXL, without transformers
        del found["class_embed_type"]
        found |= {"addition_embed_type": "text_time", "addition_time_embed_dim": unet.SIZE_WIDTH}
    tasks = shapes.get("task_embedding")
    if tasks is not None:
        found |= {
            "num_control_type": tasks[0],
            "num_trans_channel": tasks[1],
            "num_trans_head": HEADS,
            "num_trans_layer": sum(name.endswith(".attn.in_proj_weight") for name in shapes),
            "num_proj_channel": shapes["spatial_ch_projs.weight"][0],
        }
    return Config(found)


def _ldm_table(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = dict(unet.ldm_table(config))
    hint, embedding = "input_hint_block", "controlnet_cond_embedding"
    table |= {f"{embedding}.conv_in": f"{hint}.0", f"{embedding}.conv_out": f"{hint}.{2 * HINT_BLOCKS + 2}"}
    table |= {f"{embedding}.blocks.{number}": f"{hint}.{2 * number + 2}" for number in range(HINT_BLOCKS)}
    count = len(config.block_out_channels) * (config.layers_per_block + 1)
    table |= {f"controlnet_down_blocks.{number}": f"zero_convs.{number}.0" for number in range(count)}
    return {**table, "controlnet_mid_block": "middle_block_out.0"}


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"ldm": _ldm_table, "diffusers": lambda config: {"": ""}}
