"""Prompts of HiDream: the pooled vectors of CLIP-L and CLIP-G, 128 tokens of T5, and all layers of Llama for at least
128 tokens. Weights act in CLIP and T5; for Llama brackets are plain text.

`options` may hold another prompt for an encoder under its part's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graphflow import GraphFlowError, Problem

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, prompt_chunks
from ..kits.language_model_network import all_states
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_in
from ..kits.t5_network import encode_whole, prompt_whole
from . import LLAMA

__all__ = ["encode"]

TOKENS = 128
BEGIN, PAD = "<|begin_of_text|>", "<|eot_id|>"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    texts = {part: options.get(part, prompt) for part in encoders}
    pooled = [
        encode_chunks(encoders[part], clip.config[part], prompt_chunks(clip, part, texts[part], options), -1, True)[1]
        for part in ("text.l", "text.g")
    ]
    words = prompt_whole(clip, texts["text.t5"], options)
    t5 = encode_whole(encoders["text.t5"], clip, words, TOKENS)[:TOKENS]
    tokenizer = tokenizer_in(_vocabulary(clip))
    ids = ids_of(tokenizer, BEGIN + texts["text.llama"])
    pads = [tokenizer.token_to_id(PAD)] * (TOKENS - len(ids))
    layers = all_states(encoders["text.llama"], [*ids, *pads], tokens=len(ids))[1:]
    return [Entry(text=t5, pooled=torch.cat(pooled), extra={LLAMA: layers})]


def _vocabulary(clip: Clip) -> str:
    source = dict(clip.sources).get("tokenizer.llama")
    if source is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_tokenizer",
                    "the vocabulary of Llama 3 is not there, and HiDream encodes prompts with it",
                    hint="put its tokenizer.json into models/tokenizers/llama3",
                )
            ]
        )
    return str(Path(source.path) / source.prefix)
