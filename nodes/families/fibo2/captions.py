"""Structured captions: the JSON objects that FIBO 2 was trained on, in the form in which it read them.

A caption has no empty values and no scores, and is written without spaces. An edit is an object of its images, the
caption of the result where there is one, and an instruction. Source: the prompts of diffusers' BriaFibo2Pipeline.
"""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["NOTHING", "edit_prompt", "image_prompt"]

NOTHING = (
    '{"short_description":"","objects":[],"background_setting":"","lighting":{},"aesthetics":{},'
    '"photographic_characteristics":{},"style_medium":"","context":"","artistic_style":""}'
)
"""The caption of guidance away from nothing in particular."""
SCORES = frozenset({"aesthetic_score", "preference_score"})
INSTRUCTION, CAPTION = "edit_instruction", "structured_caption"
WORDS_AND_TEXTS = {"short_description", "text_render"}


def image_prompt(prompt: str) -> str:
    """A prompt for a new image: a JSON caption in its trained form, any other text as it is."""
    caption, _ = _read(prompt)
    return caption if isinstance(caption, str) else _written(caption or {})


def edit_prompt(prompt: str, images: int, mark: str) -> str:
    """A prompt for images to edit, which the text encoder sees in place of each `mark`.

    `prompt` is the instruction; or a JSON caption of the result that holds it under `edit_instruction`.
    """
    caption, instruction = _read(prompt)
    if instruction is None:
        caption, instruction = None, prompt
    names = ["image"] if images == 1 else [f"image_{number}" for number in range(1, images + 1)]
    edit: dict[str, Any] = dict.fromkeys(names, mark)
    if caption:
        edit[CAPTION] = caption
    return _written(edit | {INSTRUCTION: instruction})


def _written(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _read(prompt: str) -> tuple[dict[str, Any] | str | None, str | None]:
    """The caption (a text where it is not a JSON object) and the instruction of a prompt."""
    try:
        stated = json.loads(prompt)
    except ValueError:
        return prompt, None
    if not isinstance(stated, dict):
        return prompt, None
    instruction = stated.pop(INSTRUCTION, None)
    caption = stated.pop(CAPTION) if CAPTION in stated else stated
    if not isinstance(caption, dict):
        return caption or None, instruction
    names = set(caption)
    kept = {name: _without_scores(value) for name, value in _filled(caption).items() if name not in SCORES}
    kept = {name: value for name, value in kept.items() if value != {}}
    if names == WORDS_AND_TEXTS:  # states that the image holds no texts where the list is empty
        words, texts = caption.get("short_description"), kept.get("text_render")
        kept = {"short_description": words or "", "text_render": texts or []}
    return kept or None, instruction


def _without_scores(value: Any) -> Any:
    return {name: one for name, one in value.items() if name not in SCORES} if isinstance(value, dict) else value


def _filled(value: Any) -> Any:
    """The same without empty values, at any depth."""
    if isinstance(value, dict):
        return {name: one for name, each in value.items() if not _is_empty(one := _filled(each))}
    if isinstance(value, list):
        return [one for each in value if not _is_empty(one := _filled(each))]
    return value


def _is_empty(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str | list | dict) and not value)
