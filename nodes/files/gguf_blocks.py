"""Weights of GGUF files: blocks of numbers with a scale, unpacked by diffusers' functions.

These need the package `gguf`, and are imported only where such a weight is unpacked; the header is read without them
(`gguf_file.py`).
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .gguf_file import BLOCKS
from .tensor_info import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GGUF_READ", "gguf_is_missing", "has_whole_rows", "is_in_blocks", "unpack_blocks"]

GGUF_READ = frozenset(
    {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"}
)
"""Formats of blocks that are unpacked. F32, F16 and BF16 are plain numbers."""
_SIZES = {name: (elements, width) for name, elements, width in BLOCKS.values()}


def is_in_blocks(dtype: str) -> bool:
    """Whether a number format of a header is one of blocks."""
    return _SIZES.get(dtype, (1, 0))[0] > 1


def has_whole_rows(info: TensorInfo) -> bool:
    """Whether no block of a tensor reaches over the end of a row, along its first axis."""
    return info.elements // max(info.shape[0], 1) % _SIZES[info.dtype][0] == 0


def gguf_is_missing() -> bool:
    """Whether the package `gguf` is not installed."""
    return find_spec("gguf") is None


def unpack_blocks(blocks: Tensor, format: str) -> Tensor:
    """uint8 of any shape, whole blocks one after the other -> their numbers, float32 [N blocks, elements of one]."""
    import torch

    elements, width = _SIZES[format]
    found: Tensor = _functions()[format](blocks.reshape(-1, width), elements, width, torch.float32)
    return found.reshape(-1, elements)


@cache
def _functions() -> dict[str, Any]:
    from diffusers.quantizers.gguf.utils import dequantize_functions

    return {kind.name: function for kind, function in dequantize_functions.items()}
