r"""Prompts of Lumina 2: Gemma 2, the states of the last layer but one, without padding.

A weight w moves a token's vector away from that of the empty prompt at its place: :math:`z' = z_0 + w (z - z_0)`; the
empty prompt is padded to the same length. `embedding:NAME` is plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.language_model_network import states
from ..kits.prompt import parse_weights
from ..kits.sentencepiece_tokenizer import tokenizer_of

__all__ = ["encode"]

LAYER = -2
BEGIN, PAD = 2, 0


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    layer = LAYER if clip.stop_at is None else clip.stop_at
    ids_of = tokenizer_of(clip, part)
    ids, weights = [BEGIN], [1.0]
    for text, weight in parse_weights(prompt):
        found = ids_of(text)
        ids += found
        weights += [weight] * len(found)
    found_states = states(module, ids, layer)
    if any(weight != 1.0 for weight in weights):
        empty = states(module, [BEGIN, *[PAD] * (len(ids) - 1)], layer, tokens=1)
        found_states = empty + torch.tensor(weights)[:, None] * (found_states - empty)
    return [Entry(text=found_states)]
