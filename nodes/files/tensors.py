"""Tensors of a model file, memory-mapped: a byte is read when it is used, once, and there is no second copy of it."""

from __future__ import annotations

import mmap as maps
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property, partial
from mmap import ACCESS_COPY, PAGESIZE, mmap
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from .dequantise import UnknownLayout, dequantised
from .gguf_blocks import GGUF_READ, has_whole_rows, unpack_blocks
from .header import Header
from .quantised import StoredLayer, layouts_of
from .tensor_info import TensorInfo, damaged, unreadable

__all__ = ["TORCH_DTYPES", "TensorReader"]

TORCH_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "C128": torch.complex128,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}


class TensorReader:
    """The tensors of a header, in the number format of the file; those of quantised layers as float32.

    They are views of the mapped file (copied page by page where somebody writes to them, never into the file), and stay
    valid after `close`: the file is let go with the last of them. Use `get(name).to(...)` to have them elsewhere.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self._maps: dict[str, mmap] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; tensors that are in use keep theirs."""
        self._maps.clear()

    def get(self, name: str) -> Tensor:
        """One tensor by its name in the header; the weight of a quantised layer as float32, as its format defines it.

        Raises KeyError, and GraphFlowError where its file cannot be read or its format is not known.
        """
        info = self.header.tensors[name]
        if info.dtype in GGUF_READ:
            return unpack_blocks(self.blocks(name), info.dtype).reshape(info.shape)
        layer, _, ending = name.rpartition(".")
        layout = self.layouts.get(layer) if ending == "weight" else None
        if layout is None:
            return self.stored(name)
        try:
            return dequantised(self.stored(name), layout, partial(self.beside, layer))
        except UnknownLayout as error:
            raise unreadable(self.header.path, f"{name[:80]!r} is {error}") from None

    @cached_property
    def layouts(self) -> Mapping[str, StoredLayer]:
        """Layer -> how it is stored, of those that are quantised."""
        return layouts_of(self.header)

    def beside(self, layer: str, ending: str) -> Tensor | None:
        """The tensor `ending` (`weight_scale` ...) of a layer as it lies in the file; None where there is none."""
        name = f"{layer}.{ending}"
        return self.stored(name) if name in self.header.tensors else None

    def stored(self, name: str) -> Tensor:
        """One tensor as it lies in the file. Raises as `get`."""
        info = self.header.tensors[name]
        dtype = TORCH_DTYPES.get(info.dtype)
        if dtype is None:
            raise unreadable(self.header.path, f"{name[:80]!r} is stored as {info.dtype}, which is not read yet")
        if not info.elements:
            return torch.empty(info.shape, dtype=dtype)
        content = self._map(info)
        span = info.elements
        if info.stride is not None:
            span = 1 + sum((side - 1) * step for side, step in zip(info.shape, info.stride, strict=True))
        flat = torch.frombuffer(content, dtype=dtype, count=span, offset=info.offset)
        return flat.view(info.shape) if info.stride is None else flat.as_strided(info.shape, info.stride)

    def blocks(self, name: str) -> Tensor:
        """The blocks of a tensor of a GGUF file: uint8 [rows, bytes of a row], or [1, bytes] where rows share a
        block."""
        info = self.header.tensors[name]
        rows = info.shape[0] if info.shape and has_whole_rows(info) else 1
        flat = torch.frombuffer(self._map(info), dtype=torch.uint8, count=info.nbytes, offset=info.offset)
        return flat.view(rows, -1)

    def release(self, name: str) -> None:
        """Let go of the memory in which the system holds a tensor that has been used; it would be read again if asked
        for.

        Tensors that were got and written to lose what was written.
        """
        info = self.header.tensors[name]
        content = self._maps.get(info.file)
        if content is None or not hasattr(maps, "MADV_DONTNEED"):
            return
        begin = info.offset // PAGESIZE * PAGESIZE
        with suppress(OSError, ValueError):
            content.madvise(maps.MADV_DONTNEED, begin, info.offset + info.nbytes - begin)

    def _map(self, info: TensorInfo) -> mmap:
        content = self._maps.get(info.file)
        if content is None:
            path = Path(info.file)
            try:
                with open(path, "rb") as file:
                    content = mmap(file.fileno(), 0, access=ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise unreadable(path, getattr(error, "strerror", None) or str(error)) from None
            self._maps[info.file] = content
        if info.offset + info.nbytes > len(content):  # it was cut short after its header was read
            raise damaged(Path(info.file), f"it ends after {len(content):,} bytes")
        return content
