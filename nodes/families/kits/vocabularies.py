"""Vocabularies that do not ship here and that users put into `models/tokenizers`. Imports no torch.

T5's and Llama's licences do not let them ship. A diffusers folder brings its own; a file of a text encoder does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files.header import Header
from . import language_model, t5

__all__ = ["VOCABULARIES", "Vocabulary", "folder_of", "is_in"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Where the vocabulary of a text encoder is looked for."""

    folders: tuple[str, ...]
    """Below `models/tokenizers`, in order."""
    files: tuple[str, ...]
    """One of these is in the folder."""


VOCABULARIES: Mapping[str, Vocabulary] = {
    "t5": Vocabulary(("t5", "t5xxl", "t5-v1_1-xxl"), ("tokenizer.json", "spiece.model")),
    "llama": Vocabulary(("llama3", "llama-3.1", "llama-3.1-8b-instruct"), ("tokenizer.json",)),
}
"""By the name of the encoder in the handle of text encoders (`text.t5` ...)."""


def folder_of(encoder: str, roots: Sequence[Path]) -> Path | None:
    """The folder with the vocabulary of an encoder below one of the models folders; None where there is none."""
    vocabulary = VOCABULARIES[encoder]
    places = (root / "tokenizers" / name for root in roots for name in vocabulary.folders)
    return next((place for place in places if any((place / name).is_file() for name in vocabulary.files)), None)


def is_in(encoder: str, header: Header) -> bool:
    """Whether an encoder is in a file that brings no vocabulary: by itself, or in a whole checkpoint."""
    if header.format == "diffusers":
        return False
    if encoder == "t5":
        return t5.is_in(header)
    own = language_model.find_any(header)
    return (own is not None and own[0] == encoder) or language_model.find_beside(header, encoder) is not None
