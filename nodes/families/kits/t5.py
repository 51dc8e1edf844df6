"""The encoder of T5 v1.1 (arXiv 1910.10683): its config from shapes, its table, its tokenizer. Imports no torch.

Configs are the arguments of transformers' T5Config. Its vocabulary does not ship: see vocabularies.py.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Part, TextFound
from .transformer_file import text_prefix

__all__ = ["BIAS", "PART", "find", "find_any", "is_in", "shape_of"]

BIAS = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
"""The table of distances of a block: T5 has one, in the first."""
GATE, UP = "DenseReluDense.wi_0.weight", "DenseReluDense.wi_1.weight"


def find(header: Header, prefix: str, folder: str = "") -> TextFound | None:
    """The T5 of a file whose names begin with `prefix`, or of the part `folder` of a diffusers folder; None without
    one."""
    if header.format == "diffusers":
        if folder not in header.configs:
            return None
        prefix = f"{folder}/" if folder else ""
    if header.shape(f"{prefix}{BIAS.format(1)}"):
        return None  # UMT5
    config = shape_of(header, prefix)
    return TextFound(config, "transformers", prefix) if config is not None else None


def shape_of(header: Header, prefix: str) -> Config | None:
    """The config of an encoder with T5's names that begin with `prefix`; None without one."""
    shared = header.shape(f"{prefix}shared.weight")
    query = header.shape(f"{prefix}encoder.block.0.layer.0.SelfAttention.q.weight")
    bias = header.shape(f"{prefix}{BIAS.format(0)}")
    gate = header.shape(f"{prefix}encoder.block.0.layer.1.{GATE}")
    if not (len(shared) == len(query) == len(bias) == len(gate) == 2):
        return None
    count = 0
    while f"{prefix}encoder.block.{count}.layer.1.{UP}" in header.tensors:
        count += 1
    return Config(
        vocab_size=shared[0],
        d_model=shared[1],
        d_kv=query[0] // bias[1],
        d_ff=gate[0],
        num_layers=count,
        num_heads=bias[1],
        relative_attention_num_buckets=bias[0],
        feed_forward_proj="gated-gelu",
    )


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
    """Whether T5 is in a file that brings no vocabulary: by itself, or in a whole checkpoint."""
    return header.format != "diffusers" and any(find(header, prefix) for prefix in ("", text_prefix("t5xxl")))
