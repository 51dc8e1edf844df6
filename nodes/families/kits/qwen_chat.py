"""A turn of a chat with a model of Qwen behind a system prompt, as several families ask it."""

from __future__ import annotations

from ...model.handles import Clip
from .qwen_tokenizer import encode, tokenizer_of

__all__ = ["DESCRIBE", "START", "left_out", "turn"]

DESCRIBE = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:"
)
"""Qwen-Image's system prompt, and that of others after it."""
START = "<|im_start|>"


def turn(
    clip: Clip, part: str, system: str, words: str, after: str = f"<|im_end|>\n{START}assistant\n"
) -> tuple[list[int], int]:
    """The ids of the whole text, and how many of them stand before the user's words."""
    tokenizer = tokenizer_of(clip, part)
    before = f"{START}system\n{system}<|im_end|>\n{START}user\n"
    ids = encode(tokenizer, f"{before}{words}{after}")
    return ids, left_out(ids, encode(tokenizer, before), tokenizer.token_to_id(START))


def left_out(ids: list[int], before: list[int], start: int | None) -> int:
    """How many states stand before the user's words; the user's name stays where the words run into its line."""
    if ids[: len(before)] == before:
        return len(before)
    return [number for number, token in enumerate(ids) if token == start][1]
