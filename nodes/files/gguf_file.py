"""The header of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3."""

from __future__ import annotations

import math
import struct
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

from .gguf_names import renamed
from .tensor_info import MAX_HEADER, Contents, TensorInfo, cut_short, damaged, unreadable

__all__ = ["BLOCKS", "read_gguf"]

BLOCKS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""Number of a tensor's type -> name, elements of a block, bytes of a block."""
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SHOWN = 64
"""Elements up to which an array is worth keeping: the others are vocabularies."""
_SHAPE = "comfy.gguf.orig_shape."
"""Metadata with the shape of a tensor that was stored flat, by its name."""


def read_gguf(path: Path, file: BinaryIO, size: int) -> Contents:
    """Raises GraphFlowError where the header is damaged, or the file is shorter than its header states."""
    with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        try:
            return _GgufReader(path, content, size).contents()
        except (struct.error, UnicodeDecodeError, IndexError, OverflowError):
            raise damaged(path, f"its header is damaged, or it ends in it, after {size:,} bytes") from None


class _GgufReader:
    def __init__(self, path: Path, content: mmap, size: int) -> None:
        self._path, self._content, self._size, self._at = path, content, size, 4

    def contents(self) -> Contents:
        version = self._number("I")
        if version not in (2, 3):
            raise unreadable(self._path, f"it is GGUF of version {version}", "versions 2 and 3 are read")
        tensor_count, pair_count = self._number("Q"), self._number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(pair_count):
            key = self._text()
            metadata[key] = self._value(self._number("I"))
        listed = [self._listed() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20:
            raise damaged(self._path, "its alignment is impossible")
        start = -(-self._at // alignment) * alignment
        kind_of_model = str(metadata.get("general.architecture", ""))
        tensors = {
            renamed(name, kind_of_model): self._tensor(name, shape, kind, start + offset, metadata)
            for name, shape, kind, offset in listed
        }
        end = max((info.offset + info.nbytes for info in tensors.values()), default=0)
        if end > self._size:
            raise cut_short(self._path, self._size, end)
        texts = {key: str(value)[:1000] for key, value in metadata.items() if value is not None and _SHAPE not in key}
        return Contents("gguf", tensors, texts)

    def _listed(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        rank = self._number("I")
        if rank > 8:
            raise damaged(self._path, f"the tensor {name[:80]!r} has {rank} axes")
        shape = tuple(self._number("Q") for _ in range(rank))[::-1]  # the fastest axis is listed first
        return name, shape, self._number("I"), self._number("Q")

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: int, offset: int, metadata: dict[str, Any]
    ) -> TensorInfo:
        if kind not in BLOCKS:
            raise unreadable(self._path, f"the tensor {name[:80]!r} has the unknown number format {kind}")
        dtype, elements, width = BLOCKS[kind]
        count = math.prod(shape)
        if any(side >= 1 << 48 for side in shape) or (shape and shape[-1] % elements):
            raise damaged(self._path, f"the tensor {name[:80]!r} has an impossible shape")
        stated = metadata.get(_SHAPE + name)
        if isinstance(stated, list) and all(type(side) is int for side in stated) and math.prod(stated) == count:
            shape = tuple(stated)
        return TensorInfo(dtype, shape, count // elements * width, str(self._path), offset)

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._content, self._at)
        self._at += struct.calcsize(f"<{code}")
        if self._at > MAX_HEADER:
            raise damaged(self._path, "its header is too long")
        return value

    def _text(self) -> str:
        length = self._number("Q")
        begin = self._at
        if length > min(MAX_HEADER, self._size - begin):
            raise damaged(self._path, f"its header is damaged, or it ends in it, after {self._size:,} bytes")
        self._at += length
        return self._content[begin : self._at].decode("utf-8", "replace")

    def _value(self, kind: int, depth: int = 0) -> Any:
        """None for an array that is long."""
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY or depth > 4:
            raise damaged(self._path, "its header holds a value of an unknown kind")
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS and count > _SHOWN:
            self._at += count * struct.calcsize(f"<{_SCALARS[inner]}")
            self._number("0s")
            return None
        if inner == _STRING and count > _SHOWN:
            self._skip_texts(count)
            return None
        return [self._value(inner, depth + 1) for _ in range(count)]

    def _skip_texts(self, count: int) -> None:
        """A vocabulary: a hundred thousand texts, so this loop does nothing else."""
        at, content, length_of = self._at, self._content, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_of(content, at)[0]
            if at > MAX_HEADER:
                break
        self._at = at
        self._number("0s")
