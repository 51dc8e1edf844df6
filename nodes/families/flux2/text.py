"""Prompts of FLUX.2 klein: one turn of a chat with Qwen3 whose thinking is empty, three of its layers side by side.

Brackets are plain text. Shorter texts are filled up to 512 tokens, which the text does not see; their states stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.language_model_network import layers_side_by_side
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["LAYERS", "TEMPLATE", "encode"]

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
LAYERS = (9, 18, 27)
SHORTEST = 512
PAD = 151643
"""`<|endoftext|>` of Qwen."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    ids = list(ids_of(tokenizer_of(clip, part), TEMPLATE.format(prompt)))
    padded = ids + [PAD] * (SHORTEST - len(ids))
    return [Entry(text=layers_side_by_side(module, padded, LAYERS, tokens=len(ids)))]
