"""Prompts of LongCat-Image: a turn of a chat with Qwen2.5-VL, of which the user's words are kept, 512 tokens of them.

What stands between quotation marks is cut into its letters, so that the model can write it. Brackets are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen25_vl_network import states
from ..kits.qwen_tokenizer import FIRST_SPECIAL, tokenizer_of
from ..kits.qwen_tokenizer import encode as ids_of

__all__ = ["VISION", "encode", "pieces"]

CAPTION = (
    "As an image captioning expert, generate a descriptive text prompt based on an image content, suitable for input "
    "to a text-to-image model."
)
EDIT = (
    "As an image editing expert, first analyze the content and attributes of the input image(s). Then, based on the "
    "user's editing instructions, clearly and precisely determine how to modify the given image(s), ensuring that only "
    "the specified parts are altered and all other aspects remain consistent with the original(s)."
)
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where an image stands in a prompt: before its words."""
LENGTH = 512
PART = "text.qwen25vl"
PAD = FIRST_SPECIAL
_QUOTED = re.compile("|".join(f"{first}[^{first}{last}]*?{last}" for first, last in ("''", '""', "‘’", "“”")))
_INSIDE = re.compile(r"[a-zA-Z]+'[a-zA-Z]+")
"""A word with an apostrophe, which opens no quotation."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold `images` (float32 [H, W, 3] in 0..1, one for each `VISION` at the beginning of the prompt)."""
    tokenizer = tokenizer_of(clip, PART)
    images = options.get("images", ())
    words = prompt.rpartition(VISION)[2] if images else prompt
    seen = prompt[: len(prompt) - len(words)]
    before = ids_of(tokenizer, f"<|im_start|>system\n{EDIT if images else CAPTION}<|im_end|>\n<|im_start|>user\n")
    tokens = [token for piece in pieces(words) for token in ids_of(tokenizer, piece)][:LENGTH]
    after = ids_of(tokenizer, "<|im_end|>\n<|im_start|>assistant\n")
    padded = tokens + [PAD] * (LENGTH - len(tokens))
    ids = [*before, *ids_of(tokenizer, seen), *padded, *after]
    found = states(encoders[PART], clip.config[PART], ids, images, pad=PAD)
    return [Entry(text=found[len(before) : len(found) - len(after)])]


def pieces(words: str) -> list[str]:
    """The parts of a text that are read one by one: single letters inside quotation marks."""
    kept: list[str] = []

    def keep(word: re.Match[str]) -> str:
        kept.append(word[0])
        return chr(0xE000 + len(kept) - 1)  # a letter that no text has stands for the word

    found: list[str] = []
    at = 0
    marked = _INSIDE.sub(keep, words)
    for quoted in _QUOTED.finditer(marked):
        found += [marked[at : quoted.start()], *_back(quoted[0], kept)]
        at = quoted.end()
    whole = [_back(piece, kept) if len(piece) > 1 else piece for piece in [*found, marked[at:]]]
    return [piece for piece in whole if piece]


def _back(text: str, kept: list[str]) -> str:
    for number, word in enumerate(kept):
        text = text.replace(chr(0xE000 + number), word)
    return text
