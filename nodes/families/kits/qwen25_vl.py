"""The language model Qwen2.5-VL as a text encoder: its config from shapes, and its tables. Imports no torch.

Configs hold `text` and `vision` (absent where the file has no vision tower), the arguments of transformers' classes.
Layouts: `qwen` (`model.layers`, `visual.blocks`, as in single files and older folders) and `transformers`
(`model.language_model.layers`, `model.visual.blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...files.quantised import weights_of
from ...model.config import Config
from ...model.family import Part, TextFound

__all__ = ["LAYOUTS", "PART", "find", "find_any"]

Shape = tuple[int, ...]
HEAD, VISION_HEAD = 128, 80
"""Columns of one attention head, where no config states their number."""
PREFIXES = ("", "text_encoders.qwen25_7b.transformer.")
_SPECIAL = {"image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652}
_TEXT = ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")
_VISION = ("num_heads", "fullatt_block_indexes", "window_size", "spatial_merge_size")
_LANGUAGE = (("qwen", "model.", "visual."), ("transformers", "model.language_model.", "model.visual."))
"""Layout, and what the names of the language model and of the vision tower begin with."""
LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "qwen": lambda config: {"language_model": "model", "visual": "visual"},
    "transformers": lambda config: {"language_model": "model.language_model", "visual": "model.visual"},
}


def find_any(header: Header) -> tuple[str, TextFound] | None:
    """The encoder of a file of its own, with its name."""
    found = find(header)
    return ("qwen25vl", found) if found is not None else None


PART = Part(
    build=f"{__name__}_network:build",
    layouts=LAYOUTS,
    title="text encoder Qwen2.5-VL",
    unused=("lm_head.*", "visual.rotary_pos_emb.*", "*.rotary_emb.inv_freq"),
    find=find_any,
)


def find(header: Header, folder: str = "text_encoder") -> TextFound | None:
    """The encoder of a file of its own, of a whole checkpoint, or of the part `folder` of a diffusers folder."""
    if header.format == "diffusers":
        stated = header.configs.get(folder, header.configs.get(""))
        if stated is None or stated.get("model_type") != "qwen2_5_vl":
            return None
        return _under(header, f"{folder}/" if folder in header.configs else "", stated)
    return next((found for prefix in PREFIXES if (found := _under(header, prefix, {})) is not None), None)


def _under(header: Header, prefix: str, stated: Mapping[str, Any]) -> TextFound | None:
    if not any(name.startswith(f"{prefix}model.") for name in header.tensors):
        return None
    length = len(prefix)
    shapes = {name[length:]: info.shape for name, info in weights_of(header).items() if name.startswith(prefix)}
    for layout, language, vision in _LANGUAGE:
        if f"{language}layers.0.self_attn.k_proj.bias" in shapes:
            text = _text(shapes, language, stated.get("text_config", stated))
            tower = _vision(shapes, vision, stated.get("vision_config", {}))
            special = {name: int(stated.get(name, default)) for name, default in _SPECIAL.items()}
            return TextFound(Config({"text": text, **special, **({"vision": tower} if tower else {})}), layout, prefix)
    return None


def _text(shapes: Mapping[str, Shape], begin: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = shapes[f"{begin}embed_tokens.weight"]
    attention = f"{begin}layers.0.self_attn"
    rope = stated.get("rope_parameters") or stated.get("rope_scaling") or {}
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes[f"{begin}layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": _count(shapes, f"{begin}layers.{{}}.input_layernorm.weight"),
        "num_attention_heads": shapes[f"{attention}.q_proj.weight"][0] // HEAD,
        "num_key_value_heads": shapes[f"{attention}.k_proj.weight"][0] // HEAD,
        "rms_norm_eps": 1e-6,
        **{name: stated[name] for name in _TEXT if name in stated},
        "head_dim": shapes[f"{attention}.q_proj.weight"][0] // stated["num_attention_heads"]
        if "num_attention_heads" in stated
        else HEAD,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(rope.get("rope_theta", stated.get("rope_theta", 1e6))),
            "mrope_section": rope.get("mrope_section", (16, 24, 24)),
        },
    }


def _vision(shapes: Mapping[str, Shape], begin: str, stated: Mapping[str, Any]) -> dict[str, Any] | None:
    patch = shapes.get(f"{begin}patch_embed.proj.weight")
    if patch is None:
        return None
    return {
        "depth": _count(shapes, f"{begin}blocks.{{}}.norm1.weight"),
        "hidden_size": patch[0],
        "intermediate_size": shapes[f"{begin}blocks.0.mlp.gate_proj.weight"][0],
        "out_hidden_size": shapes[f"{begin}merger.mlp.2.weight"][0],
        "num_heads": patch[0] // VISION_HEAD,
        "in_channels": patch[1],
        "temporal_patch_size": patch[2],
        "patch_size": patch[3],
        "spatial_merge_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": (7, 15, 23, 31),
        **{name: stated[name] for name in _VISION if name in stated},
    }


def _count(shapes: Mapping[str, Shape], name: str) -> int:
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count
