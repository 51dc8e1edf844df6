"""Prompts of FLUX.1: the pooled vector of CLIP-L (of the first chunk, not projected), the states of T5 of 256 tokens or
more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, prompt_chunks
from ..kits.t5_network import encode_whole, prompt_whole

__all__ = ["encode"]

SHORTEST = 256
"""Tokens."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold another prompt for an encoder under its part's name."""
    chunks = prompt_chunks(clip, "text.l", options.get("text.l", prompt), options)
    unprojected = clip.config["text.l"] | {"projection": False}
    _, pooled = encode_chunks(encoders["text.l"], unprojected, chunks[:1], None, normed=True)
    tokens = prompt_whole(clip, options.get("text.t5", prompt), options)
    extra = {name: value for name, value in options.items() if name not in ("embeddings", "text.l", "text.t5")}
    return [Entry(text=encode_whole(encoders["text.t5"], clip, tokens, SHORTEST), pooled=pooled, extra=extra)]
