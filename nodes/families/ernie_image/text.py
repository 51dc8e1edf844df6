"""Prompts of ERNIE-Image: the words alone, the states of the last layer but one of Ministral 3. Brackets are plain
text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits import tekken_tokenizer
from ..kits.language_model_network import states

__all__ = ["LAYER", "encode"]

LAYER = -2


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    ids = [tekken_tokenizer.BEGIN, *tekken_tokenizer.tokenizer_of(clip, part)(prompt)]
    return [Entry(text=states(module, ids, LAYER if clip.stop_at is None else clip.stop_at))]
