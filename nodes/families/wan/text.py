"""Prompts of Wan: the last states of UMT5 for the words and their end; up to 512 follow as zeros.

Brackets weigh tokens. Names of embeddings are plain text: there are none for UMT5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.prompt import Chunk, parse_weights
from ..kits.sentencepiece_tokenizer import tokenizer_of
from ..kits.t5_network import encode_whole
from . import TEXT

__all__ = ["encode"]


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    ids_of = tokenizer_of(clip, part)
    places, weights = list[int](), list[float]()
    for text, weight in parse_weights(prompt):
        ids = ids_of(text)
        places += ids
        weights += [weight] * len(ids)
    chunk = Chunk(tuple(places), tuple(weights))
    return [Entry(text=encode_whole(module, clip, chunk, TEXT, masked=True))]
