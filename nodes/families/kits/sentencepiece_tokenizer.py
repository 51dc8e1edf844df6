"""Tokenizers that are SentencePiece models: in the tensor `spiece_model` of a text encoder's file, or in a diffusers
folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from graphflow import GraphFlowError, Problem

from ...files.header import read_header, unreadable
from ...files.tensors import TensorReader
from ...model.handles import Clip, WeightsSource

__all__ = ["tokenizer_of"]

TENSOR = "spiece_model"
FILES = ("tokenizer.model", "spiece.model")


def tokenizer_of(clip: Clip, part: str) -> Callable[[str], list[int]]:
    """The function that gives the ids of a text for one text encoder of a handle (`text.gemma2` ...); nothing is added
    to them.

    Raises a Problem where the encoder brings no tokenizer.
    """
    sources = dict(clip.sources)
    folder = sources.get(part.replace("text.", "tokenizer."))
    if folder is not None:
        return _in_folder(Path(folder.path) / folder.prefix)
    return _in_file(sources[part])


def _in_folder(place: Path) -> Callable[[str], list[int]]:
    file = next((place / name for name in FILES if (place / name).is_file()), None)
    if file is not None:
        return _processor(file.read_bytes(), file).encode
    if (place / "tokenizer.json").is_file():
        from .qwen_tokenizer import encode, tokenizer_in

        tokenizer = tokenizer_in(str(place))
        return lambda text: encode(tokenizer, text)
    raise _missing(place, f"it holds none of {', '.join((*FILES, 'tokenizer.json'))}")


def _in_file(source: WeightsSource) -> Callable[[str], list[int]]:
    header = read_header(Path(source.path))
    # In a checkpoint it may lie beside the encoder or one level above it.
    begins = [source.prefix, source.prefix.removesuffix("model.")]
    begins.append(begins[-1].removesuffix("transformer."))
    name = next((begin + TENSOR for begin in begins if begin + TENSOR in header.tensors), None)
    if name is None:
        raise _missing(header.path, f"it has no tensor {TENSOR!r}")
    with TensorReader(header) as reader:
        return _processor(reader.stored(name).numpy().tobytes(), header.path).encode


@lru_cache(maxsize=4)
def _processor(model: bytes, path: Path) -> SentencePieceProcessor:
    try:
        return SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise unreadable(path, f"its tokenizer is damaged ({error})") from None


def _missing(path: Path, why: str) -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "no_tokenizer",
                f"{path.name} brings no tokenizer: {why}",
                input="clip",
                hint="use the file of this text encoder that ComfyUI's templates name: it carries its tokenizer",
            )
        ]
    )
