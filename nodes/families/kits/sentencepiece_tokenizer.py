"""Tokenizers that are SentencePiece models: in the tensor `spiece_model` of a text encoder's file, or in a diffusers
folder. A file may hold one as `tokenizer_json` instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from graphflow import GraphFlowError, Problem

from ...files.header import read_header, unreadable
from ...files.tensors import TensorReader
from ...model.handles import Clip, WeightsSource
from .qwen_tokenizer import encode, tokenizer_in

__all__ = ["both_ways", "tokenizer_of"]

TENSOR, JSON = "spiece_model", "tokenizer_json"
FILES = ("tokenizer.model", "spiece.model")
_PLACES = {
    "text.umt5": ", or put spiece.model into models/tokenizers/umt5",
    "text.gemma3": ", or put tokenizer.model into models/tokenizers/gemma3",
}


def tokenizer_of(clip: Clip, part: str) -> Callable[[str], list[int]]:
    """The function that gives the ids of a text for one text encoder of a handle (`text.gemma2` ...); nothing is added
    to them.

    Raises a Problem where the encoder brings no tokenizer.
    """
    found = _found(clip, part)
    if isinstance(found, SentencePieceProcessor):
        return found.encode
    return lambda text: encode(found, text)


def both_ways(
    clip: Clip, part: str, special: Sequence[str]
) -> tuple[Callable[[str], list[int]], Callable[[Sequence[int]], str], Callable[[str], int | None]]:
    """(text -> ids, ids -> text, special token -> its id or None). The tokens `special` are recognised where they stand
    in a text. Raises as `tokenizer_of`."""
    found = _found(clip, part)
    if not isinstance(found, SentencePieceProcessor):
        other = found
        return lambda text: encode(other, text), lambda ids: str(other.decode(list(ids))), other.token_to_id
    processor = found
    cut = re.compile("(" + "|".join(map(re.escape, special)) + ")")

    def id_of(token: str) -> int | None:
        number = processor.piece_to_id(token)
        return None if number == processor.unk_id() else int(number)

    def ids_of(text: str) -> list[int]:
        ids: list[int] = []
        for piece in filter(None, cut.split(text)):
            number = id_of(piece) if piece in special else None
            ids += processor.encode(piece) if number is None else [number]
        return ids

    return ids_of, lambda ids: str(processor.decode(list(map(int, ids)))), id_of


def _found(clip: Clip, part: str) -> SentencePieceProcessor | Tokenizer:
    sources = dict(clip.sources)
    folder = sources.get(part.replace("text.", "tokenizer."))
    if folder is not None:
        return _in_folder(Path(folder.path) / folder.prefix)
    return _in_file(sources[part], part)


def _in_folder(place: Path) -> SentencePieceProcessor | Tokenizer:
    file = next((place / name for name in FILES if (place / name).is_file()), None)
    if file is not None:
        return _processor(file.read_bytes(), file)
    if (place / "tokenizer.json").is_file():
        return tokenizer_in(str(place))
    raise _missing(place, f"it holds none of {', '.join((*FILES, 'tokenizer.json'))}")


def _in_file(source: WeightsSource, part: str) -> SentencePieceProcessor | Tokenizer:
    header = read_header(Path(source.path))
    # In a checkpoint it may lie beside the encoder or one level above it.
    begins = [source.prefix, source.prefix.removesuffix("model.")]
    begins.append(begins[-1].removesuffix("transformer."))
    name = next((begin + one for one in (TENSOR, JSON) for begin in begins if begin + one in header.tensors), None)
    if name is None:
        raise _missing(header.path, f"it has no tensor {TENSOR!r}", part)
    with TensorReader(header) as reader:
        content = reader.stored(name).numpy().tobytes()
    return _of_json(content, header.path) if name.endswith(JSON) else _processor(content, header.path)


@lru_cache(maxsize=4)
def _processor(model: bytes, path: Path) -> SentencePieceProcessor:
    try:
        return SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise unreadable(path, f"its tokenizer is damaged ({error})") from None


@lru_cache(maxsize=4)
def _of_json(content: bytes, path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises errors of every kind where a text is not what it expects
        raise unreadable(path, f"its tokenizer is damaged ({error})") from None


def _missing(path: Path, why: str, part: str = "") -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "no_tokenizer",
                f"{path.name} brings no tokenizer: {why}",
                input="clip",
                hint="use the file of this text encoder that ComfyUI's templates name: it carries its tokenizer"
                + _PLACES.get(part, ""),
            )
        ]
    )
