"""The tokenizer of Qwen 2, 2.5 and 3: the one that ships here, or that of a diffusers folder.

Byte pairs over bytes (GPT-2's way of writing bytes as letters), composed text (NFC), digits one by one.
"""

from __future__ import annotations

import gzip
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from ...files.header import unreadable
from ...model.handles import Clip

__all__ = ["FIRST_SPECIAL", "SPECIAL", "bytes_as_letters", "encode", "qwen_tokenizer", "tokenizer_in", "tokenizer_of"]

MERGES = Path(__file__).with_name("qwen_vocabulary") / "merges.txt.gz"
FIRST_SPECIAL = 151643
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""Their ids follow on from FIRST_SPECIAL. Those of Qwen 2.5 end with `<|file_sep|>`; later ones are Qwen 3's."""
_WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text; nothing is added to it, and special tokens are recognised where they stand."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def tokenizer_of(clip: Clip, part: str) -> Tokenizer:
    """The tokenizer for one text encoder of a handle (`text.qwen3` ...): that of its diffusers folder, or the one
    here."""
    folder = dict(clip.sources).get(part.replace("text.", "tokenizer."))
    return tokenizer_in(str(Path(folder.path) / folder.prefix)) if folder is not None else qwen_tokenizer()


@cache
def qwen_tokenizer() -> Tokenizer:
    """The one that ships here."""
    merges = [tuple(line.split(" ")) for line in gzip.decompress(MERGES.read_bytes()).decode().splitlines()]
    words = [*bytes_as_letters(), *("".join(pair) for pair in merges)]
    special = {word: FIRST_SPECIAL + number for number, word in enumerate(SPECIAL)}
    return _made({word: number for number, word in enumerate(words)}, merges, special)


@lru_cache(maxsize=8)
def tokenizer_in(folder: str) -> Tokenizer:
    """The tokenizer of a diffusers folder: `tokenizer.json`, or `vocab.json` with `merges.txt`.

    Raises a Problem where there is none, or it is damaged.
    """
    place = Path(folder)
    try:
        if (place / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(place / "tokenizer.json"))
        vocabulary = json.loads((place / "vocab.json").read_text(encoding="utf-8"))
        lines = (place / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        return _made(vocabulary, merges, _special_in(place / "tokenizer_config.json"))
    except Exception as error:  # the library raises errors of every kind where a file is not what it expects
        stated = str(error).strip().splitlines()
        raise unreadable(place, stated[0] if stated else "its tokenizer is damaged") from None


def _special_in(path: Path) -> dict[str, int]:
    stated: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {token["content"]: int(number) for number, token in stated.get("added_tokens_decoder", {}).items()}


def _made(vocabulary: dict[str, int], merges: list[tuple[str, ...]], special: dict[str, int]) -> Tokenizer:
    pairs = [(first, second) for first, second in merges]
    tokenizer = Tokenizer(BPE(vocabulary, pairs))
    tokenizer.normalizer = NFC()
    bytes_as_letters = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = Sequence([Split(_WORDS, "isolated"), bytes_as_letters])
    tokenizer.decoder = ByteLevelDecoder()
    for word, number in sorted(special.items(), key=lambda item: item[1]):
        tokenizer.add_special_tokens([AddedToken(word, normalized=False)])
        if tokenizer.token_to_id(word) != number:
            raise ValueError(f"the id of {word} is {tokenizer.token_to_id(word)}, expected {number}")
    return tokenizer


def bytes_as_letters() -> list[str]:
    """The letters that stand for the 256 bytes: printable ones for themselves first, then the letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, printable), *(chr(256 + number) for number in range(256 - len(printable)))]
