"""Prompts of LTX-2: the states of all layers of Gemma 3 through the connectors, the texts of video and sound side by
side.

Pads are left out, as nothing looks at them: learned tokens take their places. Brackets and `embedding:NAME` are plain
text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.language_model_network import embeddings_and_layers
from ..kits.sentencepiece_tokenizer import tokenizer_of
from . import TEXT
from .connectors_network import texts

__all__ = ["encode"]

BEGIN = 2


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ids = [BEGIN, *tokenizer_of(clip, "text.gemma3")(prompt.strip())][:TEXT]
    states = embeddings_and_layers(encoders["text.gemma3"], ids)
    return [Entry(text=texts(encoders["text.connectors"], states, TEXT))]
