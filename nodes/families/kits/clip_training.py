"""Prompts through text encoders of CLIP in batches and with gradients, for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...model.config import Config
from .clip_network import encode_rows
from .prompt import Chunk

__all__ = ["joined_rows"]


def joined_rows(
    encoders: Mapping[str, Any],
    configs: Config,
    chunks: Mapping[str, Sequence[Sequence[Chunk]]],
    layer: int | None,
    normed: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(states [N, 77 k, D], encoder -> pooled [N, D']) of N prompts; D is the width of all encoders together.

    `chunks`: part of an encoder -> the chunks of each prompt. k is the most chunks that one prompt has for one encoder;
    the others get empty ones. The pooled vector is that of the first chunk.
    """
    most = max(len(found) for rows in chunks.values() for found in rows)
    states, pooled = [], {}
    for part, rows in chunks.items():
        filled = [chunk for found in rows for chunk in (*found, *[Chunk((), ())] * (most - len(found)))]
        kept, vectors = encode_rows(encoders[part], configs[part], filled, layer, normed)
        states.append(kept.reshape(len(rows), -1, kept.shape[-1]))
        pooled[part] = vectors[::most]
    return torch.cat(states, dim=-1), pooled
