"""Prompts of FLUX.2, three layers of a language model side by side. Brackets are plain text.

klein: one turn of a chat with Qwen3 whose thinking is empty. Shorter texts are filled up to 512 tokens, which the text
does not see; their states stay. dev: a turn of a chat with Mistral 3 behind a system prompt, without padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.entry import Entry
from ...model.handles import Clip
from ..kits import tekken_tokenizer
from ..kits.language_model_network import layers_side_by_side
from ..kits.qwen_tokenizer import encode as ids_of
from ..kits.qwen_tokenizer import tokenizer_of

__all__ = ["DEV_LAYERS", "DEV_TEMPLATE", "LAYERS", "TEMPLATE", "encode"]

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
LAYERS = (9, 18, 27)
SHORTEST = 512
PAD = 151643
"""`<|endoftext|>` of Qwen."""
DEV_TEMPLATE = (
    "[SYSTEM_PROMPT]You are an AI that reasons about image descriptions. You give structured responses focusing on "
    "object relationships, object\nattribution and actions without speculation.[/SYSTEM_PROMPT][INST]{}[/INST]"
)
DEV_LAYERS = (10, 20, 30)


def encode(clip: Clip, encoders: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> list[Entry]:
    ((part, module),) = encoders.items()
    if part == "text.mistral3":
        words = prompt.replace("[IMG]", "")  # stands for an image, of which there is none
        tokens = [tekken_tokenizer.BEGIN, *tekken_tokenizer.tokenizer_of(clip, part)(DEV_TEMPLATE.format(words))]
        return [Entry(text=layers_side_by_side(module, tokens, DEV_LAYERS, tokens=len(tokens)))]
    ids = list(ids_of(tokenizer_of(clip, part), TEMPLATE.format(prompt)))
    padded = ids + [PAD] * (SHORTEST - len(ids))
    return [Entry(text=layers_side_by_side(module, padded, LAYERS, tokens=len(ids)))]
