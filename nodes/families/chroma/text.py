"""Prompts of Chroma: the states of T5, as many as there are tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.t5_network import encode_whole, prompt_whole

__all__ = ["encode"]


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """T5TokenizerOptions with `min_padding` 1 adds the pad that its training had.

    The empty prompt, from which weights lead away, has pads alone and no end, unlike that of FLUX.1.
    """
    tokens = prompt_whole(clip, options.get("text.t5", prompt), options)
    extra = {name: value for name, value in options.items() if name not in ("embeddings", "text.l", "text.t5")}
    return [Entry(text=encode_whole(encoders["text.t5"], clip, tokens, 0, empty=()), extra=extra)]
