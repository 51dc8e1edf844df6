"""Prompts of HiDream: T5's states of 128 tokens, all layers of Llama 3.1, and the pooled vectors of CLIP-L and CLIP-G.

T5 sees the first 127 tokens and the end; Llama's text is filled up to 128 tokens and grows beyond. Weights act in the
CLIPs and in T5; for Llama brackets are plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphflow import GraphFlowError, Problem

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.clip_network import encode_chunks, prompt_chunks
from ..kits.language_model_network import every_layer
from ..kits.prompt import Chunk
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_in
from ..kits.t5_network import encode_whole, prompt_whole

__all__ = ["encode"]

TOKENS = 128
BEGIN, PAD = 128000, 128009
"""Of Llama 3.1."""


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold another prompt for an encoder under its part's name."""
    prompts = {part: options.get(part) or "" if part in options else prompt for part in encoders}
    pooled = [_pooled(clip, encoders, part, prompts[part], options) for part in ("text.l", "text.g")]
    extra = {name: value for name, value in options.items() if name != "embeddings" and name not in encoders}
    llama = _llama(clip, encoders["text.llama"], prompts["text.llama"])
    text = encode_whole(encoders["text.t5"], clip, _cut(prompt_whole(clip, prompts["text.t5"], options)), TOKENS)
    return [Entry(text=text, pooled=torch.cat(pooled), extra={**extra, "llama": llama})]


def _pooled(clip: Clip, encoders: Mapping[str, Any], part: str, prompt: str, options: Mapping[str, Any]) -> Tensor:
    chunks = prompt_chunks(clip, part, prompt, options)
    return encode_chunks(encoders[part], clip.config[part], chunks, None, normed=False)[1]


def _cut(chunk: Chunk) -> Chunk:
    return replace(chunk, places=chunk.places[: TOKENS - 1], weights=chunk.weights[: TOKENS - 1])


def _llama(clip: Clip, module: Any, prompt: str) -> Tensor:
    source = dict(clip.sources).get("tokenizer.llama")
    if source is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_tokenizer",
                    "the vocabulary of Llama 3.1 is not there, and HiDream encodes prompts with it",
                    hint="put its tokenizer.json into models/tokenizers/llama3: its licence does not let us ship it",
                )
            ]
        )
    ids = [BEGIN, *ids_of(tokenizer_in(str(Path(source.path) / source.prefix)), prompt)]
    tokens = len(ids)
    return every_layer(module, [*ids, *[PAD] * (TOKENS - tokens)], tokens)
