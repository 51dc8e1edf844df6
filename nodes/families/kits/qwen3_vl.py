"""The language model Qwen3-VL as a text encoder: its config from shapes, and its tables. Imports no torch.

Configs hold `text` and `vision`, the arguments of transformers' classes. In files it has the names of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.header import Header
from ...files.quantised import weights_of
from ...model.config import Config
from ...model.family import Part, TextFound
from .flow import Shape, count

__all__ = ["PART", "find", "find_any"]

HEADS = 16
"""Of the vision towers of both sizes, where no config states their number."""
LANGUAGE, VISION = "model.language_model.", "model.visual."
PREFIXES = ("", "text_encoders.qwen3vl_4b.transformer.", "text_encoders.qwen3vl_8b.transformer.")
_DEEP_OF_27 = (8, 16, 24)
"""The layers of the larger tower, of 27, whose states the language model sees as well."""
_SPECIAL = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}


def find_any(header: Header) -> tuple[str, TextFound] | None:
    """The encoder of a file of its own, with its name."""
    found = find(header)
    return ("qwen3vl", found) if found is not None else None


PART = Part(
    build=f"{__name__}_network:build",
    layouts={"transformers": lambda config: {"language_model": LANGUAGE[:-1], "visual": VISION[:-1]}},
    title="text encoder Qwen3-VL",
    unused=("lm_head.*", "*.rotary_emb.inv_freq", "*.rotary_pos_emb.inv_freq"),
    find=find_any,
)


def find(header: Header, folder: str = "text_encoder") -> TextFound | None:
    """The encoder of a file of its own, of a whole checkpoint, or of the part `folder` of a diffusers folder."""
    if header.format == "diffusers":
        stated = header.configs.get(folder, header.configs.get(""))
        if stated is None or stated.get("model_type") != "qwen3_vl":
            return None
        return _under(header, f"{folder}/" if folder in header.configs else "", stated)
    return next((found for prefix in PREFIXES if (found := _under(header, prefix, {})) is not None), None)


def _under(header: Header, prefix: str, stated: Mapping[str, Any]) -> TextFound | None:
    if f"{prefix}{VISION}deepstack_merger_list.0.norm.weight" not in header.tensors:
        return None
    length = len(prefix)
    shapes = {name[length:]: info.shape for name, info in weights_of(header).items() if name.startswith(prefix)}
    special = {name: int(stated.get(name, default)) for name, default in _SPECIAL.items()}
    text, vision = _text(shapes, stated.get("text_config", {})), _vision(shapes, stated.get("vision_config", {}))
    return TextFound(Config({"text": text, "vision": vision, **special}), "transformers", prefix)


def _text(shapes: Mapping[str, Shape], stated: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = shapes[f"{LANGUAGE}embed_tokens.weight"]
    attention = f"{LANGUAGE}layers.0.self_attn"
    head = shapes[f"{attention}.q_norm.weight"][0]
    rope = stated.get("rope_parameters") or stated.get("rope_scaling") or {}
    third = head // 2 * 5 // 16
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[f"{LANGUAGE}layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": count(shapes, f"{LANGUAGE}layers.{{}}.input_layernorm.weight"),
        "num_attention_heads": shapes[f"{attention}.q_proj.weight"][0] // head,
        "num_key_value_heads": shapes[f"{attention}.k_proj.weight"][0] // head,
        "head_dim": head,
        "rms_norm_eps": stated.get("rms_norm_eps", 1e-6),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(rope.get("rope_theta", stated.get("rope_theta", 5e6))),
            # 24, 20 and 20 of 64 turns are those of time, rows and columns.
            "mrope_section": rope.get("mrope_section", (head // 2 - 2 * third, third, third)),
            "mrope_interleaved": True,
        },
    }


def _vision(shapes: Mapping[str, Shape], stated: Mapping[str, Any]) -> dict[str, Any]:
    patch = shapes[f"{VISION}patch_embed.proj.weight"]
    depth = count(shapes, f"{VISION}blocks.{{}}.norm1.weight")
    deep = count(shapes, f"{VISION}deepstack_merger_list.{{}}.norm.weight")
    step = depth // (deep + 1)
    layers = _DEEP_OF_27 if (depth, deep) == (27, 3) else tuple(step * (number + 1) - 1 for number in range(deep))
    return {
        "depth": depth,
        "hidden_size": patch[0],
        "in_channels": patch[1],
        "temporal_patch_size": patch[2],
        "patch_size": patch[3],
        "intermediate_size": shapes[f"{VISION}blocks.0.mlp.linear_fc1.weight"][0],
        "out_hidden_size": shapes[f"{VISION}merger.linear_fc2.weight"][0],
        "num_position_embeddings": shapes[f"{VISION}pos_embed.weight"][0],
        "num_heads": stated.get("num_heads", HEADS),
        "spatial_merge_size": stated.get("spatial_merge_size", 2),
        "deepstack_visual_indexes": stated.get("deepstack_visual_indexes", layers),
    }
