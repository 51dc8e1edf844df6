"""Prompts of Ovis-Image: one turn of a chat with Ovis 2.5 (Qwen3) whose thinking is empty; the last states from the end
of the instruction on. Brackets are plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.language_model_network import states
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["BEFORE", "encode"]

BEFORE = (
    "<|im_start|>user\nDescribe the image by detailing the color, quantity, text, shape, size, texture, spatial "
    "relationships of the objects and background:"
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    tokenizer = tokenizer_of(clip, part)
    # Of the instruction's 29 tokens the last one, the colon, was kept in training.
    left_out = len(ids_of(tokenizer, BEFORE)) - 1
    return [Entry(text=states(module, ids_of(tokenizer, f"{BEFORE} {prompt}{AFTER}"), -1)[left_out:])]
