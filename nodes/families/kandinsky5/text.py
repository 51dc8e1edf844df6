"""Prompts of Kandinsky 5: a turn of a chat with Qwen2.5-VL, whose states are kept from the user's words on, and
CLIP-L's pooled vector (of the first chunk, not projected).

Weights act in CLIP; for Qwen brackets are plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, prompt_chunks
from ..kits.qwen25_vl_network import states
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["TEMPLATE", "encode"]

TEMPLATE = (
    "<|im_start|>system\nYou are a prompt engineer. Describe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
END = "<|im_end|>"
QWEN, CLIP = "text.qwen25vl", "text.l"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    tokenizer = tokenizer_of(clip, QWEN)
    ids = ids_of(tokenizer, f"{TEMPLATE}{prompt}{END}")
    before = len(ids_of(tokenizer, TEMPLATE))
    text = states(encoders[QWEN], clip.config[QWEN], ids)[before:]
    chunks = prompt_chunks(clip, CLIP, prompt, options)
    unprojected = clip.config[CLIP] | {"projection": False}  # files of CLIP-L may bring a projection
    pooled = encode_chunks(encoders[CLIP], unprojected, chunks[:1], None, normed=False)[1]
    return [Entry(text=text, pooled=pooled)]
