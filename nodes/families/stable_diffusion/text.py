"""Prompts of Stable Diffusion 1.x (CLIP-L, its last layer) and 2.x (CLIP-H, the last but one), through the final
norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, prompt_chunks, prompt_words
from ..kits.clip_training import joined_rows

__all__ = ["encode", "encode_rows", "words"]

LAYERS = {"text.l": None, "text.h": -2}


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    layer = LAYERS[part] if clip.stop_at is None else clip.stop_at
    chunks = prompt_chunks(clip, part, prompt, options)
    states, pooled = encode_chunks(module, clip.config[part], chunks, layer, normed=True)
    return [Entry(text=states, pooled=pooled)]


def encode_rows(
    clip: Clip, encoders: Mapping[str, Any], prompts: Sequence[str], options: Mapping[str, Any]
) -> list[Entry]:
    """The entries of several prompts in one pass, with gradients: for training."""
    ((part, module),) = encoders.items()
    layer = LAYERS[part] if clip.stop_at is None else clip.stop_at
    chunks = {part: [prompt_chunks(clip, part, prompt, options) for prompt in prompts]}
    states, pooled = joined_rows({part: module}, clip.config, chunks, layer, normed=True)
    return [Entry(text=state, pooled=vector) for state, vector in zip(states, pooled[part], strict=True)]


def words(clip: Clip, prompt: str, options: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """The words of a prompt and their places among the tokens of its entry."""
    part = next(part for part, _ in clip.sources if part.startswith("text."))
    return prompt_words(clip, part, prompt, options)
