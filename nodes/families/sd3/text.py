"""Prompts of Stable Diffusion 3: CLIP-L and CLIP-G side by side, filled up to T5's width, then T5's states.

The pooled vector is CLIP-L's and CLIP-G's, projected. An encoder that is not there is zeros, T5 nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, pad_to_equal, prompt_chunks
from ..kits.t5_network import encode_whole, prompt_whole

__all__ = ["encode"]

WIDTH = 4096
"""Of T5-XXL."""
WIDTHS = {"text.l": 768, "text.g": 1280}
SHORTEST = 77
"""Tokens of T5."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold another prompt for an encoder under its part's name. None leaves CLIP-L and CLIP-G out where
    it stands for both; of T5 it leaves the end of the text alone, without pads."""
    texts: list[Tensor] = []
    pooled = torch.zeros(sum(WIDTHS.values()))
    prompts = {part: options.get(part, prompt) for part in (*WIDTHS, "text.t5") if part in encoders}
    clips = [part for part in WIDTHS if part in prompts]
    if any(prompts[part] is not None for part in clips):
        states, pooled = _clips(clip, encoders, {part: prompts[part] for part in clips}, options)
        texts.append(states)
    if "text.t5" in prompts:
        tokens = prompt_whole(clip, prompts["text.t5"] or "", options)
        shortest = SHORTEST if prompts["text.t5"] is not None else 0
        texts.append(encode_whole(encoders["text.t5"], clip, tokens, shortest))
    width = max([WIDTH, *(text.shape[-1] for text in texts)])
    text = torch.cat([F.pad(text, (0, width - text.shape[-1])) for text in texts]) if texts else torch.zeros(77, width)
    extra = {name: value for name, value in options.items() if name not in ("embeddings", *WIDTHS, "text.t5")}
    return [Entry(text=text, pooled=pooled, extra=extra)]


def _clips(
    clip: Clip, encoders: Mapping[str, Any], prompts: Mapping[str, str | None], options: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    layer = -2 if clip.stop_at is None else clip.stop_at
    chunks = pad_to_equal({part: prompt_chunks(clip, part, text or "", options) for part, text in prompts.items()})
    states, pooled = [], []
    length = max(len(found) for found in chunks.values()) * 77
    for part, width in WIDTHS.items():
        if part in chunks:
            found = encode_chunks(encoders[part], clip.config[part], chunks[part], layer, normed=False)
        else:
            found = torch.zeros(length, width), torch.zeros(width)
        states.append(found[0])
        pooled.append(found[1])
    return torch.cat(states, dim=-1), torch.cat(pooled)
