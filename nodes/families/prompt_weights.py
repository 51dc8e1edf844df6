"""Weights in prompts for text encoders that do not read them: a warning before the run. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphflow import Problem

from ..model.handles import Clip

__all__ = ["READ_WEIGHTS", "WORDLESS", "weights_without_effect"]

READ_WEIGHTS = frozenset({"l", "g", "h", "t5", "umt5", "gemma2", "qwen3_06b"})
"""The text encoders whose families read `(word:1.2)` as a weight; to the others it is plain text."""
WORDLESS = frozenset({"connectors"})
"""Networks behind a text encoder, which read its states and no words."""
_STATED = re.compile(r"\(([^():\\]*[^\W\d_][^():\\]*):\s*(\d?\.\d+|[0-3])\s*\)")
"""Words with a number as people write weights; a ratio as in (16:9) is not meant."""


def weights_without_effect(clip: Clip, prompt: str, only: str = "") -> Iterator[Problem]:
    """The problem where a prompt states weights and none of the encoders, or of those named `only`, reads them."""
    parts = [part for part, _ in clip.sources if part.startswith("text.") and only in ("", part.removeprefix("text."))]
    parts = [part for part in parts if part.removeprefix("text.") not in WORDLESS]
    if not parts or any(part.removeprefix("text.") in READ_WEIGHTS for part in parts):
        return
    stated = next((found for found in _STATED.finditer(prompt) if float(found[2]) != 1.0), None)
    if stated is not None:
        titles = (clip.family.parts[part].title.removeprefix("text encoder ") for part in parts)
        yield Problem(
            "weights_without_effect",
            f"{' and '.join(titles)} reads {stated[0]!r} as plain text: weights have no effect in prompts of "
            f"{clip.family.title}",
            hint="leave the brackets and the number out, and say in words what matters most",
        )
