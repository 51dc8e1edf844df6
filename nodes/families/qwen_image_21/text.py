"""Prompts of Qwen-Image 2.1: a turn of a chat with Qwen3-VL, whose last states (before the final norm) are kept from
the user's turn on.

Brackets are plain text. An empty prompt is one space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen3_vl_network import layers_of, slots_of
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["SYSTEM", "VISION", "encode"]

SYSTEM = "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where an image stands in a prompt."""
PART = "text.qwen3vl"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold `images` (float32 [H, W, 3] in 0..1, one for each `VISION` in the prompt, with sides that are
    multiples of 32)."""
    tokenizer, config = tokenizer_of(clip, PART), clip.config[PART]
    images = options.get("images", ())
    user = ids_of(tokenizer, f"<|im_start|>user\n{prompt or ' '}<|im_end|>\n<|im_start|>assistant\n")
    before = ids_of(tokenizer, SYSTEM)
    ids = [*before, *user]
    found = layers_of(encoders[PART], config, ids, (-1,), images, fit=False)[0, len(before) :]
    slots = tuple(place for place, seen in enumerate(slots_of(config, user, images)) if seen) if images else ()
    return [Entry(text=found, image_slots=slots)]
