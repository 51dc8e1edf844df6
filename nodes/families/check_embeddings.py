"""Before a run: whether the embeddings that prompts name are as wide as the text encoders that read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphflow import GraphFlowError, Problem, Settings
from graphflow.spi import Bound

from ..files.embeddings import find_embedding, vectors_in
from ..files.folders import ModelFolders
from ..files.header import read_header
from ..model.handles import Clip
from .kits.prompt import embedding_names

__all__ = ["embedding_problems"]

READERS = {
    "text": ("text.l", "text.g", "text.h"),
    "text_l": ("text.l",),
    "text_g": ("text.g",),
    "clip_l": ("text.l",),
    "clip_g": ("text.g",),
}
"""Input of a node -> the CLIP encoders that read it."""


def embedding_problems(clip: Clip, node: Bound, settings: Settings) -> Iterator[Problem]:
    """What cannot be read, and what is not there, is reported by the node's own check."""
    folders = ModelFolders(list(settings.models), settings.pickles)
    parts = {part for part, _ in clip.sources}
    for input, readers in READERS.items():
        text = node.literals.get(input)
        if not isinstance(text, str) or "embedding:" not in text:
            continue
        try:
            paths = [find_embedding(folders, name.rstrip(",")) for name in embedding_names(text)]
            for header in (read_header(path) for path in paths if path is not None):
                for part in (part for part in readers if part in parts):
                    encoder = f"clip_{part.removeprefix('text.')}"
                    vectors_in(header, encoder, clip.config[part].hidden_size)
        except GraphFlowError as error:
            wrong = (problem for problem in error.problems if problem.code == "wrong_embedding")
            yield from (replace(problem, input=input) for problem in wrong)
