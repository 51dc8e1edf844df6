"""A few numbers of a small tensor, read from a file by themselves. Imports no torch where the file is safetensors."""

from __future__ import annotations

import struct

from ...files.header import Header

__all__ = ["MOST", "peek"]

MOST = 1 << 16
"""Bytes."""


def peek(header: Header, name: str) -> tuple[float, ...]:
    """The numbers of a tensor of a float format and at most 64 KB; () where there is none of that name."""
    info = header.tensors.get(name)
    if info is None or info.nbytes > MOST or info.stride is not None or info.dtype not in ("F16", "BF16", "F32", "F64"):
        return ()
    with open(info.file, "rb") as file:
        file.seek(info.offset)
        data = file.read(info.nbytes)
    if info.dtype == "BF16":  # the upper half of a float32
        data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    code = {"F16": "e", "BF16": "f", "F32": "f", "F64": "d"}[info.dtype]
    return struct.unpack(f"<{info.elements}{code}", data)
