"""The encoder of UMT5 (arXiv 2304.09151): its config from shapes, its table. Imports no torch.

It has the names of T5, and a table of distances in each block where T5 has one for all. Configs are the arguments of
transformers' UMT5Config. Its vocabulary is the tensor `spiece_model` of its file, or lies in a diffusers folder or in
`models/tokenizers/umt5`.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.family import Part, TextFound
from .t5 import BIAS, shape_of
from .transformer_file import text_prefix

__all__ = ["PART", "find", "find_any", "is_in"]


def find(header: Header, prefix: str, folder: str = "") -> TextFound | None:
    """The UMT5 of a file whose names begin with `prefix`, or of the part `folder` of a diffusers folder; None without
    one."""
    if header.format == "diffusers":
        if folder not in header.configs:
            return None
        prefix = f"{folder}/" if folder else ""
    if not header.shape(f"{prefix}{BIAS.format(1)}"):
        return None
    config = shape_of(header, prefix)
    return TextFound(config, "transformers", prefix) if config is not None else None


def find_any(header: Header) -> tuple[str, TextFound] | None:
    """UMT5's encoder that is a file or a folder by itself: `umt5` and what was found."""
    found = find(header, "")
    return ("umt5", found) if found is not None else None


def is_in(header: Header) -> bool:
    """Whether UMT5 is in a file, by itself or in a whole checkpoint."""
    places = ("", text_prefix("umt5xxl"))
    return header.format != "diffusers" and any(find(header, prefix) is not None for prefix in places)


PART = Part(
    build=f"{__package__}.umt5_network:build",
    layouts={"transformers": lambda config: {"": "encoder", "embed_tokens": "shared"}},
    title="text encoder UMT5",
    unused=("encoder.embed_tokens.weight", "decoder.*", "lm_head.*", "logit_scale", "spiece_model"),
    find=find_any,
)
"""The part `text.umt5` of a family."""
