"""The header of a safetensors file: 8 bytes with its length, JSON (name -> dtype, shape, offsets), then the data.

The format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, BinaryIO

from .tensor_info import BITS, MAX_HEADER, Contents, TensorInfo, cut_short, damaged, unreadable

__all__ = ["read_safetensors"]


def read_safetensors(path: Path, file: BinaryIO, size: int) -> Contents:
    """Raises GraphFlowError where the header is damaged, or the file is shorter than its header states."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER:
        raise damaged(path, f"its header would have {length:,} bytes")
    if length > size - 8:
        raise damaged(path, f"it ends after {size:,} bytes, in the middle of its header of {length:,}")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        raise damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a JSON object")
    stated = header.pop("__metadata__", None)
    metadata = {key: str(value) for key, value in stated.items()} if isinstance(stated, dict) else {}
    start = 8 + length
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}
    end = max((info.offset + info.nbytes for info in tensors.values()), default=start)
    if end > size:
        raise cut_short(path, size, end)
    return Contents("safetensors", tensors, metadata)


def _tensor(path: Path, name: str, entry: Any, start: int) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise damaged(path, f"its header does not describe the tensor {name[:80]!r}")
    if dtype not in BITS:
        raise unreadable(path, f"the tensor {name[:80]!r} has the unknown number format {dtype[:40]!r}")
    if not all(type(side) is int and 0 <= side < 1 << 48 for side in shape) or len(shape) > 64:
        raise damaged(path, f"the tensor {name[:80]!r} has an impossible shape")
    if not 0 <= begin <= end or math.prod(shape) * BITS[dtype] != 8 * (end - begin):
        raise damaged(path, f"the tensor {name[:80]!r} has {end - begin:,} bytes, which does not fit its shape {shape}")
    return TensorInfo(dtype, tuple(shape), end - begin, str(path), start + begin)
