"""Prompts of LTX-Video: the states of T5 for the words and their end, and pads up to 128, which nothing looks at.

Brackets weigh tokens, and `embedding:NAME` adds vectors of T5's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.t5_network import encode_whole, prompt_whole
from . import TEXT

__all__ = ["encode"]


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    tokens = prompt_whole(clip, options.get("text.t5", prompt), options)
    text = encode_whole(encoders["text.t5"], clip, tokens, TEXT, masked=True)
    seen = torch.zeros(len(text))
    seen[: len(tokens.places) + 1] = 1.0
    extra = {name: value for name, value in options.items() if name not in ("embeddings", "text.l", "text.t5")}
    return [Entry(text=text, attention_mask=seen, extra=extra)]
