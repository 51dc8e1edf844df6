"""A prompt as tokens with weights, which packs read and change between `tokenize` and `encode_from_tokens`.

    {"l": [[(49406, 1.0), (736, 1.0), ..., (49407, 1.0), (49407, 1.0)]]}

Encoders of CLIP have their tokens there, in chunks of 77. Language models read the text itself: what a pack changes is
seen by the encoders of CLIP alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from graphflow import GraphFlowError, Problem, Settings

from ..families.kits.prompt import CHUNK, Chunk, ReadPrompt
from ..model.handles import Clip

__all__ = ["PackTokens", "prompt_of", "tokens_of"]

OF_CLIP = frozenset({"l", "g", "h"})


class PackTokens(dict[str, Any]):
    """See above."""

    def __init__(self, chunks: dict[str, Any], text: str) -> None:
        super().__init__(chunks)
        self.text = text
        self._read = {letter: [list(row) for row in rows] for letter, rows in chunks.items()}

    def has_changed(self) -> bool:
        """Whether a pack has written into it."""
        return not _same(dict(self), self._read)


def tokens_of(clip: Clip, text: str, with_words: bool, settings: Settings) -> PackTokens:
    """The tokens of a prompt for each encoder of CLIP of a handle."""
    from ..families.kits.clip_network import prompt_chunks, prompt_words
    from ..library.conditioning import embeddings_of

    found: dict[str, Any] = {}
    for part in _parts(clip):
        options, config = embeddings_of(settings), clip.config[part]
        rows: list[list[tuple[Any, ...]]] = [
            list(_row(chunk, config)) for chunk in prompt_chunks(clip, part, text, options)
        ]
        if with_words:
            words = prompt_words(clip, part, text, options)
            numbers = {place: number for number, (_, places) in enumerate(words, 1) for place in places}
            rows = [
                [(*pair, numbers.get(index * (CHUNK + 2) + place, 0)) for place, pair in enumerate(row)]
                for index, row in enumerate(rows)
            ]
        found[part.removeprefix("text.")] = rows
    return PackTokens(found, text)


def prompt_of(tokens: Mapping[str, Any], clip: Clip) -> str:
    """The prompt to encode: the text, or chunks where a pack has changed the tokens."""
    if isinstance(tokens, PackTokens) and not tokens.has_changed():
        return tokens.text
    if not isinstance(tokens, Mapping):
        raise TypeError(f"found {type(tokens).__name__}, expected the tokens that this CLIP's tokenize() gives")
    chunks = {}
    for part in _parts(clip):
        letter = part.removeprefix("text.")
        if letter not in tokens:
            raise _wrong(f"the tokens have none for {letter!r}")
        chunks[part] = [_chunk(row, clip.config[part]) for row in tokens[letter]]
    return ReadPrompt(getattr(tokens, "text", ""), chunks)


def _parts(clip: Clip) -> list[str]:
    return [part for part, _ in clip.sources if part.removeprefix("text.") in OF_CLIP and part.startswith("text.")]


def _row(chunk: Chunk, config: Any) -> list[tuple[Any, float]]:
    """The token that begins, those of the chunk, the one that ends, and what fills it up."""
    end = config.eos_token_id
    padding = (end if config.pad is None else config.pad, 1.0)
    inner = list(zip(chunk.places, chunk.weights, strict=True))
    return [(config.bos_token_id, 1.0), *inner, (end, 1.0), *[padding] * (CHUNK - len(inner))]


def _chunk(row: Sequence[Sequence[Any]], config: Any) -> Chunk:
    items = [(item[0], float(item[1])) for item in row]
    if items and items[0][0] == config.bos_token_id:
        items = items[1:]
    end = next(
        (at for at, (token, _) in enumerate(items) if isinstance(token, int) and token == config.eos_token_id), None
    )
    items = items[:end]
    if len(items) > CHUNK:
        raise _wrong(f"a row of tokens has {len(items)} between its begin and its end; at most {CHUNK} fit")
    places = tuple(token.float() if isinstance(token, Tensor) else int(token) for token, _ in items)
    return Chunk(places, tuple(weight for _, weight in items))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _wrong(message: str) -> GraphFlowError:
    return GraphFlowError([Problem("foreign_tokens", message, hint="the pack's node is to change tokens row by row")])
