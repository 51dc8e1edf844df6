"""Prompts of Anima: the last states of Qwen3 0.6B for the words alone, and T5's tokens of the same words with their
weights, which act on what the conditioner makes of them.

An empty prompt is one `<|endoftext|>` for Qwen3 (inferred).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.language_model_network import states
from ..kits.prompt import parse_weights
from ..kits.qwen_tokenizer import FIRST_SPECIAL, tokenizer_of
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.t5_network import END, prompt_whole

__all__ = ["encode"]


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    words = "".join(text for text, _ in parse_weights(prompt))
    ids = ids_of(tokenizer_of(clip, part), words) or [FIRST_SPECIAL]
    tokens = prompt_whole(clip, prompt, {})
    extra = {
        "t5xxl_ids": torch.tensor([*tokens.places, END]),
        "t5xxl_weights": torch.tensor([*tokens.weights, 1.0]),
    }
    return [Entry(text=states(module, ids, -1), extra=extra)]
