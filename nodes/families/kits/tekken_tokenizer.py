"""Tokenizers of Mistral 3 and Ministral 3: in the tensor `tekken_model` of a text encoder's file, or in a diffusers
folder.

Tekken is a JSON text: byte pairs by rank, and special tokens whose ids stand before them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from graphflow import GraphFlowError, Problem

from ...files.header import read_header, unreadable
from ...files.tensors import TensorReader
from ...model.handles import Clip, WeightsSource
from .qwen_tokenizer import bytes_as_letters, encode, tokenizer_in

__all__ = ["BEGIN", "library_tokenizer", "tekken_in", "tekken_tokenizer", "tokenizer_of"]

BEGIN = 1
"""The id of `<s>`, with which texts begin."""
TENSOR = "tekken_model"
SPECIAL = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "[INST]",
    4: "[/INST]",
    5: "[AVAILABLE_TOOLS]",
    6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]",
    8: "[/TOOL_RESULTS]",
    9: "[TOOL_CALLS]",
    10: "[IMG]",
    11: "<pad>",
    12: "[IMG_BREAK]",
    13: "[IMG_END]",
    14: "[PREFIX]",
    15: "[MIDDLE]",
    16: "[SUFFIX]",
    17: "[SYSTEM_PROMPT]",
    18: "[/SYSTEM_PROMPT]",
}
"""Where a file does not list its special tokens."""


def tokenizer_of(clip: Clip, part: str) -> Callable[[str], list[int]]:
    """The function that gives the ids of a text for one text encoder of a handle (`text.mistral3` ...); special tokens
    are recognised where they stand, and nothing is added.

    Raises a Problem where the encoder brings no tokenizer.
    """
    tokenizer = library_tokenizer(clip, part)
    return lambda text: encode(tokenizer, text)


def library_tokenizer(clip: Clip, part: str) -> Tokenizer:
    """The same as an object of the library `tokenizers`, which reads ids as well."""
    sources = dict(clip.sources)
    folder = sources.get(part.replace("text.", "tokenizer."))
    return _in_folder(Path(folder.path) / folder.prefix) if folder is not None else _in_file(sources[part])


def _in_folder(place: Path) -> Tokenizer:
    tekken = place / "tekken.json"
    if not (place / "tokenizer.json").is_file() and tekken.is_file():
        return tekken_tokenizer(tekken.read_bytes(), tekken)
    return tokenizer_in(str(place))


def tekken_in(header_path: Path, begins: tuple[str, ...]) -> Tokenizer | None:
    """The tokenizer in a tensor of a file whose name begins with one of `begins`; None where there is none."""
    header = read_header(header_path)
    name = next((begin + TENSOR for begin in begins if begin + TENSOR in header.tensors), None)
    if name is None:
        return None
    with TensorReader(header) as reader:
        return tekken_tokenizer(reader.stored(name).numpy().tobytes(), header.path)


def _in_file(source: WeightsSource) -> Tokenizer:
    # In a checkpoint it may lie beside the encoder or one level above it.
    inner = source.prefix.removesuffix("model.").removesuffix("language_model.").removesuffix("model.")
    path = Path(source.path)
    found = tekken_in(path, (source.prefix, inner, inner.removesuffix("transformer.")))
    if found is None:
        raise GraphFlowError(
            [
                Problem(
                    "no_tokenizer",
                    f"{path.name} brings no tokenizer: it has no tensor {TENSOR!r}",
                    input="clip",
                    hint="use the file of this text encoder that ComfyUI's templates name: it carries its tokenizer; "
                    "or a diffusers folder",
                )
            ]
        )
    return found


@lru_cache(maxsize=4)
def tekken_tokenizer(model: bytes, path: Path) -> Tokenizer:
    """The tokenizer that a Tekken text describes; `path` is named where it is damaged."""
    try:
        return _made(json.loads(model.rstrip(b"\0").decode("utf-8")))
    except Exception as error:  # the library raises errors of every kind where a file is not what it expects
        stated = str(error).strip().splitlines()
        raise unreadable(path, f"its tokenizer is damaged ({stated[0] if stated else type(error).__name__})") from None


def _made(stated: dict[str, Any]) -> Tokenizer:
    config = stated["config"]
    first = int(config["default_num_special_tokens"])
    count = min(len(stated["vocab"]), int(config.get("default_vocab_size", len(stated["vocab"]) + first)) - first)
    words = [base64.b64decode(word["token_bytes"]) for word in stated["vocab"][:count]]
    ranks = {word: rank for rank, word in enumerate(words)}
    letters = dict(zip(bytes_as_letters(), _BYTES, strict=True))
    letter = {byte: letter for letter, byte in letters.items()}
    spelled = ["".join(letter[byte] for byte in word) for word in words]
    special = _special(stated)
    vocabulary = {special.get(number, f"<SPECIAL_{number}>"): number for number in range(first)}
    vocabulary |= {word: first + rank for rank, word in enumerate(spelled)}
    merges = [(spelled[ranks[left]], spelled[ranks[right]]) for word in words for left, right in _halves(word, ranks)]
    tokenizer = Tokenizer(BPE(vocabulary, merges, ignore_merges=True))
    own = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = Sequence([Split(Regex(config["pattern"]), "isolated"), own])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(special[number], normalized=False) for number in sorted(special)])
    return tokenizer


_BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES += [byte for byte in range(256) if byte not in _BYTES]
"""The bytes in the order of `bytes_as_letters`."""


def _special(stated: dict[str, Any]) -> dict[int, str]:
    listed = stated.get("special_tokens")
    return {int(token["rank"]): token["token_str"] for token in listed} if listed else SPECIAL


def _halves(word: bytes, ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pairs of words that a word may be merged from, those of the lowest ranks first."""
    cuts = [(word[:place], word[place:]) for place in range(1, len(word))]
    found = [pair for pair in cuts if pair[0] in ranks and pair[1] in ranks]
    return sorted(found, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
