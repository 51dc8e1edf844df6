"""Prompts of Qwen-Image: a turn of a chat with Qwen2.5-VL, whose states are kept from the user's words on.

Brackets are plain text here, and have no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen25_vl_network import states
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["DESCRIBE", "EDIT", "VISION", "encode"]

DESCRIBE = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:"
)
EDIT = (
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain how "
    "the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate."
)
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where an image stands in a prompt."""
START = "<|im_start|>"
PART = "text.qwen25vl"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold `images` (float32 [H, W, 3] in 0..1, one for each `VISION` in the prompt) and `edit`: the chat
    begins with EDIT in place of DESCRIBE."""
    tokenizer = tokenizer_of(clip, PART)
    system = EDIT if options.get("edit") else DESCRIBE
    before = f"{START}system\n{system}<|im_end|>\n{START}user\n"
    words = prompt.replace("\\(", "(").replace("\\)", ")")
    ids = ids_of(tokenizer, f"{before}{words}<|im_end|>\n{START}assistant\n")
    left_out = _left_out(ids, ids_of(tokenizer, before), tokenizer.token_to_id(START))
    found = states(encoders[PART], clip.config[PART], ids, options.get("images", ()))
    return [Entry(text=found[left_out:])]


def _left_out(ids: list[int], before: list[int], start: int | None) -> int:
    """How many states stand before the user's words; the user's name stays where the words run into its line."""
    if ids[: len(before)] == before:
        return len(before)
    return [number for number, token in enumerate(ids) if token == start][1]
