"""A prompt without the trigger of PhotoMaker: its tokens are taken out after the prompt was cut into chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...model.handles import Clip
from ..kits.clip_network import prompt_chunks, prompt_words
from ..kits.prompt import CHUNK, Chunk, ReadPrompt
from . import TRIGGER

__all__ = ["without_trigger"]


def without_trigger(clip: Clip, prompt: str, place: int, options: Mapping[str, Any]) -> ReadPrompt:
    """The prompt for CLIP's encoders without its word number `place`, the trigger."""
    before = " ".join(prompt.split()[:place])
    parts = [part for part, _ in clip.sources if part.startswith("text.")]
    return ReadPrompt(prompt, {part: _chunks(clip, part, prompt, before, options) for part in parts})


def _chunks(clip: Clip, part: str, prompt: str, before: str, options: Mapping[str, Any]) -> list[Chunk]:
    earlier = sum(word == TRIGGER for word, _ in prompt_words(clip, part, before, options))  # "photomaker," is not it
    named = [positions for word, positions in prompt_words(clip, part, prompt, options) if word == TRIGGER]
    taken = {divmod(position, CHUNK + 2) for positions in named[earlier : earlier + 1] for position in positions}
    found = []
    for number, chunk in enumerate(prompt_chunks(clip, part, prompt, options)):
        kept = [index for index in range(len(chunk.places)) if (number, index + 1) not in taken]
        # What ends a full chunk is repeated in the room that is free now; any other is filled as the encoder pads it.
        spare = len(chunk.places) - len(kept) if len(chunk.places) == CHUNK else 0
        places = (*(chunk.places[index] for index in kept), *[clip.config[part].eos_token_id] * spare)
        found.append(Chunk(places, (*(chunk.weights[index] for index in kept), *[1.0] * spare)))
    return found
