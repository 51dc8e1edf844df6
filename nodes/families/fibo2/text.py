"""Prompts of FIBO 2: a turn of a chat with Qwen3-VL, 18 of its layers for each token. Brackets are plain text.

Each layer of a token is scaled to a mean square of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits.qwen3_vl_network import layers_of
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of
from . import BUNDLES

__all__ = ["TEMPLATE", "VISION", "encode"]

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where an image stands in a prompt."""
EPSILON = 1e-6


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    """`options` may hold `images` (float32 [H, W, 3] in 0..1, one for each `VISION` in the prompt)."""
    ((part, module),) = encoders.items()
    ids = ids_of(tokenizer_of(clip, part), TEMPLATE.format(prompt))
    wanted = [layer for bundle in BUNDLES for layer in bundle]
    found = layers_of(module, clip.config[part], ids, wanted, options.get("images", ()))
    scaled = found * (found.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
    return [Entry(text=scaled.movedim(0, 1).flatten(1))]
