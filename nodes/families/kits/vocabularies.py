"""Vocabularies that do not ship here and that users put into `models/tokenizers`. Imports no torch.

T5's and Llama's licences do not let them ship. A diffusers folder brings its own; a file of a text encoder does not.
The files of UMT5 and Gemma 3 carry it, those in GGUF do not; one in `models/tokenizers` comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files.header import Header
from . import language_model, t5, umt5

__all__ = ["VOCABULARIES", "Vocabulary", "folder_of", "is_needed"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Where the vocabulary of a text encoder is looked for."""

    folders: tuple[str, ...]
    """Below `models/tokenizers`, in order."""
    files: tuple[str, ...]
    """One of these is in the folder."""
    encoders: tuple[str, ...]
    """The text encoders whose prompts need it, by their names in handles (`text.t5` ...)."""


VOCABULARIES: Mapping[str, Vocabulary] = {
    "t5": Vocabulary(("t5", "t5xxl", "t5-v1_1-xxl"), ("tokenizer.json", "spiece.model"), ("t5", "qwen3_06b")),
    "umt5": Vocabulary(("umt5", "umt5-xxl"), ("spiece.model", "tokenizer.json"), ("umt5",)),
    "llama": Vocabulary(("llama3", "llama-3.1", "llama-3.1-8b-instruct"), ("tokenizer.json",), ("llama",)),
    "gemma3": Vocabulary(("gemma3", "gemma-3-12b-it"), ("tokenizer.model", "tokenizer.json"), ("gemma3",)),
}
"""Anima's Qwen3 0.6B stands beside T5's tokens of the same words."""


def folder_of(name: str, roots: Sequence[Path]) -> Path | None:
    """The folder with a vocabulary below one of the models folders; None where there is none."""
    vocabulary = VOCABULARIES[name]
    places = (root / "tokenizers" / folder for root in roots for folder in vocabulary.folders)
    return next((place for place in places if any((place / file).is_file() for file in vocabulary.files)), None)


def is_needed(name: str, header: Header) -> bool:
    """Whether an encoder in a file, by itself or in a whole checkpoint, is asked with a vocabulary."""
    if header.format == "diffusers":
        return False
    return any(_is_in(encoder, header) for encoder in VOCABULARIES[name].encoders)


def _is_in(encoder: str, header: Header) -> bool:
    kinds = {"t5": t5.is_in, "umt5": umt5.is_in}
    return kinds[encoder](header) if encoder in kinds else language_model.is_in(header, encoder)
