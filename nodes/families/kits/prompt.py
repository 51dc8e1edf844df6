r"""A prompt as ComfyUI reads it: weights in brackets, embeddings by name, chunks of tokens. Imports no torch.

A bracket's own number replaces the weight outside of it, a bracket without one multiplies it by 1.1:
`(a (b:1.2) c:1.5)` gives a 1.5, b 1.2, c 1.5; `((a) b:0.5)` gives a 0.55, b 0.5. `\(` and `\)` are plain brackets.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow import GraphFlowError, Problem

__all__ = ["CHUNK", "Chunk", "ReadPrompt", "chunks_of", "cleaned", "embedding_names", "parse_weights", "whole_of"]

CHUNK = 75
"""Tokens between the one that begins and the one that ends a chunk."""
DEEPEST = 100
"""Brackets in brackets."""
UNCUT = 8
"""A weighted segment of fewer tokens is never cut by the end of a chunk."""
_TOKEN = re.compile(r"\\[()]|[()]|[^()\\]+|\\")
_EMBEDDING = re.compile(r"(?:^|(?<=[ \n]))embedding:\s*(\S+)")


def parse_weights(prompt: str) -> list[tuple[str, float]]:
    """`a (red:1.3) (apple)` -> [("a ", 1), ("red", 1.3), (" ", 1), ("apple", 1.1)].

    Brackets without a partner are plain text. Raises a Problem where they are nested too deep, or half a character is
    in the prompt.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise _wrong("it holds half of a character (a lone surrogate)")
    return list(_parse(prompt, 1.0, DEEPEST))


def _parse(text: str, weight: float, depth_left: int) -> Iterator[tuple[str, float]]:
    if depth_left == 0:
        raise _wrong(f"its brackets are nested more than {DEEPEST} deep")
    for piece, bracketed in _pieces(text):
        if not bracketed:
            yield piece.replace("\\(", "(").replace("\\)", ")"), weight
            continue
        inner, colon, number = piece.rpartition(":")
        stated = _number(number) if colon and inner else None
        if stated is not None:
            yield from _parse(inner, stated, depth_left - 1)
        else:
            yield from _parse(piece, weight * 1.1, depth_left - 1)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text outside of brackets, and what stands in each outermost pair of them."""
    depth, start, plain = 0, 0, ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "(":
            if depth == 0:
                if plain:
                    yield plain, False
                plain, start = "", match.end()
            depth += 1
        elif token == ")" and depth > 0:
            depth -= 1
            if depth == 0 and match.start() > start:
                yield text[start : match.start()], True
        elif depth == 0:
            plain += token
    if depth > 0:
        plain = "(" + text[start:]
    if plain:
        yield plain, False


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _wrong(what: str) -> GraphFlowError:
    return GraphFlowError([Problem("bad_prompt", f"the prompt cannot be read: {what}", input="text")])


def embedding_names(prompt: str) -> list[str]:
    """The names behind `embedding:` in a prompt, in their order."""
    return [name for text, _ in parse_weights(prompt) for name in _EMBEDDING.findall(text)]


_IDEOGRAPHS = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)


def cleaned(text: str) -> str:
    """A text as CLIP's tokenizer was given it: composed, without invisible characters, each ideograph a word."""
    kept = []
    for letter in unicodedata.normalize("NFC", text):
        if letter.isspace() or unicodedata.category(letter) == "Zs":
            kept.append(" ")
        elif letter != "\ufffd" and unicodedata.category(letter)[0] != "C":
            kept.append(letter)
    return _IDEOGRAPHS.sub(r" \1 ", "".join(kept))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to 75 places (more of `whole_of`), each a token's id or a vector of an embedding [D], with their weights."""

    places: tuple[Any, ...]
    weights: tuple[float, ...]


class ReadPrompt(str):
    """A prompt whose chunks are known: node packs write tokens and weights themselves."""

    __slots__ = ("chunks",)
    chunks: Mapping[str, Sequence[Chunk]]
    """Name of an encoder (`text.l` ...) -> its chunks."""

    def __new__(cls, text: str, chunks: Mapping[str, Sequence[Chunk]]) -> ReadPrompt:
        made = super().__new__(cls, text)
        made.chunks = chunks
        return made


def chunks_of(
    prompt: str, ids: Callable[[str], Sequence[int]], vectors: Callable[[str], tuple[Sequence[Any], str]]
) -> list[Chunk]:
    """The chunks of a prompt, at least one.

    `ids` gives the tokens of a text; `vectors` those of an embedding by its name, with what is left of the name.
    What is kept together is a segment of one weight, or one embedding, if it is shorter than 8 tokens; a longer one is
    cut anywhere.
    """
    chunks: list[tuple[list[Any], list[float]]] = [([], [])]
    for segment, weight in _segments(prompt, ids, vectors):
        left = list(segment)
        while left:
            places, weights = chunks[-1]
            room = CHUNK - len(places)
            if len(left) > room and len(segment) < UNCUT:
                chunks.append(([], []))
                continue
            places += left[:room]
            weights += [weight] * len(left[:room])
            left = left[room:]
            if left:
                chunks.append(([], []))
    return [Chunk(tuple(places), tuple(weights)) for places, weights in chunks]


def whole_of(
    prompt: str, ids: Callable[[str], Sequence[int]], vectors: Callable[[str], tuple[Sequence[Any], str]]
) -> Chunk:
    """The places of a prompt as one chunk of any length, for encoders that read a text as a whole (T5)."""
    places: list[Any] = []
    weights: list[float] = []
    for segment, weight in _segments(prompt, ids, vectors):
        places += segment
        weights += [weight] * len(segment)
    return Chunk(tuple(places), tuple(weights))


def _segments(
    prompt: str, ids: Callable[[str], Sequence[int]], vectors: Callable[[str], tuple[Sequence[Any], str]]
) -> Iterator[tuple[Sequence[Any], float]]:
    for text, weight in parse_weights(prompt):
        at = 0
        for match in _EMBEDDING.finditer(text):
            yield ids(text[at : match.start()]), weight
            found, rest = vectors(match[1])
            yield found, weight
            if rest:
                yield ids(rest), weight
            at = match.end()
        yield ids(text[at:]), weight
