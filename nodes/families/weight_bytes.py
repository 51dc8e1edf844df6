"""The bytes of the weights of a part in memory, from the header of its file alone. Imports no torch."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from ..files.gguf_blocks import is_in_blocks
from ..files.header import read_header
from ..files.quantised import layouts_of, weights_of
from ..model.handles import WeightsHandle

__all__ = ["format_of", "weight_bytes"]

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
HELD = {"fp8_e4m3fn", "fp8_e5m2"}
"""Number formats in which weights may be held, but no network computes."""
FP8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
WHOLE = frozenset({"I8", "U8", "I16", "I32", "I64", "BOOL", "U16", "U32", "U64"})
"""Number formats of tensors that are not cast."""


def format_of(handle: WeightsHandle, part: str, dtype: str) -> str:
    """The number format in which a part computes where the device's own is `dtype`."""
    stated = handle.family.parts[part].dtype or handle.computes_in
    return stated if stated is not None and stated not in HELD else dtype


def weight_bytes(handle: WeightsHandle, part: str, dtype: str) -> tuple[int, str]:
    """(bytes, the format that most of the weights are packed in; "" where they are cast) of a part in memory."""
    source, described = handle.source(part), handle.family.parts[part]
    header = read_header(Path(source.path))
    layouts = layouts_of(header)
    size = ITEMSIZE[format_of(handle, part, dtype)]
    cast, packed = 0, dict[str, int]()
    for name, info in weights_of(header).items():
        if not name.startswith(source.prefix):
            continue
        if any(fnmatchcase(name[len(source.prefix) :], pattern) for pattern in described.unused):
            continue
        layout = layouts.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if layout is not None and len(info.shape) > 1:
            sides = (header.tensors.get(f"{name}{end}") for end in ("_scale", "_scale_2", "_s_rel", "_s_channel"))
            bytes = header.tensors[name].nbytes + sum(side.nbytes for side in sides if side is not None)
            packed[layout.format] = packed.get(layout.format, 0) + bytes
        elif (info.dtype in FP8 or is_in_blocks(info.dtype)) and len(info.shape) > 1:
            what = "fp8" if info.dtype in FP8 else info.dtype
            packed[what] = packed.get(what, 0) + info.nbytes
        elif handle.dtype in HELD and len(info.shape) > 1:
            packed["fp8"] = packed.get("fp8", 0) + info.elements
        else:
            cast += info.nbytes if info.dtype in WHOLE else info.elements * size
    most = max(packed, key=packed.__getitem__) if packed else ""
    total = sum(packed.values())
    return cast + total, most if total > cast else ""
