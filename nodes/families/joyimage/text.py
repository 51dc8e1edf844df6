r"""Prompts of JoyImage Edit: a turn of a chat with Qwen3-VL behind a system prompt, its last states (before the final
norm) from the user's name on. Brackets are plain text.

The system prompt has a backslash and an n where a new line was meant, as in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen3_vl_network import layers_of
from ..kits.qwen_chat import DESCRIBE
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["SYSTEM", "VISION", "encode"]

SYSTEM = f"<|im_start|>system\n \\n{DESCRIBE}<|im_end|>\n"
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where an image stands in a prompt: before its words."""
PART = "text.qwen3vl"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold `images` (float32 [H, W, 3] in 0..1, one for each `VISION` in the prompt)."""
    tokenizer = tokenizer_of(clip, PART)
    before = ids_of(tokenizer, SYSTEM)
    user = ids_of(tokenizer, f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
    images = options.get("images", ())
    found = layers_of(encoders[PART], clip.config[PART], [*before, *user], (-1,), images)
    return [Entry(text=found[0, len(before) + 1 :])]
