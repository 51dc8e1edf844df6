"""Prompts of Qwen-Image: a turn of a chat with Qwen2.5-VL, whose states are kept from the user's words on.

Brackets are plain text here, and have no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen25_vl_network import states
from ..kits.qwen_chat import DESCRIBE, turn

__all__ = ["DESCRIBE", "EDIT", "VISION", "encode"]

EDIT = (
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain how "
    "the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate."
)
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where an image stands in a prompt."""
PART = "text.qwen25vl"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold `images` (float32 [H, W, 3] in 0..1, one for each `VISION` in the prompt) and `edit`: the chat
    begins with EDIT in place of DESCRIBE."""
    system = EDIT if options.get("edit") else DESCRIBE
    words = prompt.replace("\\(", "(").replace("\\)", ")")
    ids, before = turn(clip, PART, system, words)
    found = states(encoders[PART], clip.config[PART], ids, options.get("images", ()))
    return [Entry(text=found[before:])]
