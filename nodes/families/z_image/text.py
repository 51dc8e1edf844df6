"""Prompts of Z-Image: one turn of a chat with Qwen3, the states of the last layer but one, without padding.

Brackets are plain text: a template around the prompt leaves no empty prompt to weigh against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.language_model_network import states
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["TEMPLATE", "encode"]

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LAYER = -2


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    layer = LAYER if clip.stop_at is None else clip.stop_at
    return [Entry(text=states(module, ids_of(tokenizer_of(clip, part), TEMPLATE.format(prompt)), layer))]
