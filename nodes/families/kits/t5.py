"""The encoder of T5 v1.1 (arXiv 1910.10683): its config from shapes, its table, its tokenizer. Imports no torch.

Configs are the arguments of transformers' T5Config. The vocabulary of T5 does not ship: it is found in a diffusers
folder that has it, or in `models/tokenizers/t5`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...files.header import Header
from ...model.config import Config
from ...model.family import Part, TextFound
from . import language_model
from .transformer_file import text_prefix

__all__ = ["PART", "TOKENIZER_FOLDERS", "find", "find_any", "is_in", "is_tokenizer", "tokenizer_folder"]

GATE, UP = "DenseReluDense.wi_0.weight", "DenseReluDense.wi_1.weight"
TOKENIZER_FOLDERS = ("t5", "t5xxl", "t5-v1_1-xxl")
"""Below `models/tokenizers`, in the order in which they are looked for."""
_FILES = ("tokenizer.json", "spiece.model")


def find(header: Header, prefix: str, folder: str = "") -> TextFound | None:
    """The T5 of a file whose names begin with `prefix`, or of the part `folder` of a diffusers folder; None without
    one."""
    if header.format == "diffusers":
        if folder not in header.configs:
            return None
        prefix = f"{folder}/" if folder else ""
    shared = header.shape(f"{prefix}shared.weight")
    query = header.shape(f"{prefix}encoder.block.0.layer.0.SelfAttention.q.weight")
    bias = header.shape(f"{prefix}encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    gate = header.shape(f"{prefix}encoder.block.0.layer.1.{GATE}")
    if not (len(shared) == len(query) == len(bias) == len(gate) == 2):
        return None
    count = 0
    while f"{prefix}encoder.block.{count}.layer.1.{UP}" in header.tensors:
        count += 1
    config = Config(
        vocab_size=shared[0],
        d_model=shared[1],
        d_kv=query[0] // bias[1],
        d_ff=gate[0],
        num_layers=count,
        num_heads=bias[1],
        relative_attention_num_buckets=bias[0],
        feed_forward_proj="gated-gelu",
    )
    return TextFound(config, "transformers", prefix)


def find_any(header: Header) -> tuple[str, TextFound] | None:
    """T5's encoder that is a file or a folder by itself: `t5` and what was found."""
    found = find(header, "")
    return ("t5", found) if found is not None else None


PART = Part(
    build=f"{__package__}.t5_network:build",
    layouts={"transformers": lambda config: {"": "encoder", "embed_tokens": "shared"}},
    title="text encoder T5",
    unused=("encoder.embed_tokens.weight", "decoder.*", "lm_head.*", "logit_scale"),
    find=find_any,
)
"""The part `text.t5` of a family."""


def is_in(header: Header) -> bool:
    """Whether a file that brings no vocabulary of T5 needs it: T5 by itself or in a whole checkpoint, or Anima's text
    encoder."""
    if header.format == "diffusers":
        return False
    prefixes = ("", text_prefix("t5xxl"))
    return any(find(header, prefix) for prefix in prefixes) or language_model.is_in(header, "qwen3_06b")


def is_tokenizer(folder: Path) -> bool:
    """Whether a folder holds T5's vocabulary."""
    return any((folder / name).is_file() for name in _FILES)


def tokenizer_folder(roots: Sequence[Path]) -> Path | None:
    """The folder with T5's vocabulary below one of the models folders; None where there is none."""
    places = (root / "tokenizers" / name for root in roots for name in TOKENIZER_FOLDERS)
    return next((place for place in places if is_tokenizer(place)), None)
