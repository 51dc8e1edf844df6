"""Prompts of Ideogram 4: one turn of a chat with Qwen3-VL, 13 of its layers for each token. Brackets are plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen3_vl_network import layers_of
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["LAYERS", "TEMPLATE", "encode"]

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LAYERS = (*range(1, 35, 3), 36)
"""Of 36; the last one before the final norm."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    ids = ids_of(tokenizer_of(clip, part), TEMPLATE.format(prompt))
    found = layers_of(module, clip.config[part], ids, LAYERS)
    return [Entry(text=found.permute(1, 2, 0).reshape(len(ids), -1))]  # of each feature all layers, side by side
