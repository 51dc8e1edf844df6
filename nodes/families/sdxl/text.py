"""Prompts of SDXL (CLIP-L and CLIP-G, the last layer but one of each without the final norm) and its refiner
(CLIP-G)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, pad_to_equal, prompt_chunks, prompt_words
from ..kits.clip_training import joined_rows

__all__ = ["encode", "encode_rows", "words"]


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold another prompt for an encoder under its part's name, and sizes of the image."""
    layer = -2 if clip.stop_at is None else clip.stop_at
    parts = [part for part in ("text.l", "text.g") if part in encoders]
    chunks = pad_to_equal({part: prompt_chunks(clip, part, options.get(part, prompt), options) for part in parts})
    found = {
        part: encode_chunks(encoders[part], clip.config[part], chunks[part], layer, normed=False) for part in parts
    }
    text = torch.cat([found[part][0] for part in parts], dim=-1)
    extra = {name: value for name, value in options.items() if name not in ("embeddings", *parts)}
    return [Entry(text=text, pooled=found["text.g"][1], extra=extra)]


def encode_rows(
    clip: Clip, encoders: Mapping[str, Any], prompts: Sequence[str], options: Mapping[str, Any]
) -> list[Entry]:
    """The entries of several prompts in one pass, with gradients: for training."""
    layer = -2 if clip.stop_at is None else clip.stop_at
    parts = [part for part in ("text.l", "text.g") if part in encoders]
    chunks = {part: [prompt_chunks(clip, part, prompt, options) for prompt in prompts] for part in parts}
    states, pooled = joined_rows(encoders, clip.config, chunks, layer, normed=False)
    return [Entry(text=state, pooled=vector) for state, vector in zip(states, pooled["text.g"], strict=True)]


def words(clip: Clip, prompt: str, options: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """The words of a prompt and their places among the tokens of its entry."""
    part = next(part for part, _ in clip.sources if part.startswith("text."))
    return prompt_words(clip, part, prompt, options)
