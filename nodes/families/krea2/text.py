"""Prompts of Krea 2: Qwen-Image's turn of a chat, with Qwen3-VL, whose states in twelve layers are kept from the user's
words on. Brackets are plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen3_vl_network import layers_of
from ..kits.qwen_chat import DESCRIBE, turn

__all__ = ["LAYERS", "encode"]

LAYERS = tuple(range(2, 36, 3))
PART = "text.qwen3vl"


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ids, left_out = turn(clip, PART, DESCRIBE, prompt)
    found = layers_of(encoders[PART], clip.config[PART], ids, LAYERS)[:, left_out:]
    return [Entry(text=found.transpose(0, 1).flatten(1))]
