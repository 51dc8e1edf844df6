"""Prompts of FLUX.3: one turn of a chat with Qwen3-VL, eight of its layers side by side. Brackets are plain text.

A text is filled up to a multiple of 80 tokens, 8,192 at most. The text does not see the pads, each of which stands at
place 1 as in the model's training; the transformer attends to them.
"""

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
LAYERS = tuple(range(4, 33, 4))
MULTIPLE, LONGEST = 80, 8192
PAD = 151643
"""`<|endoftext|>`."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    ids = ids_of(tokenizer_of(clip, part), TEMPLATE.format(prompt))[:LONGEST]
    length = min(-(-len(ids) // MULTIPLE) * MULTIPLE, LONGEST)
    padded = [*ids, *[PAD] * (length - len(ids))]
    found = layers_of(module, clip.config[part], padded, LAYERS, seen=len(ids))
    return [Entry(text=found.transpose(0, 1).flatten(1))]
