"""A tensor of a model file without its numbers, and the Problem of a file that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphflow import GraphFlowError, Problem

from ..model.header import TensorInfo

__all__ = ["BITS", "MAX_HEADER", "Contents", "TensorInfo", "cut_short", "damaged", "unreadable"]

MAX_HEADER = 100 << 20
"""Bytes of a header. The largest published ones have a few megabytes; safetensors itself refuses more than this."""

BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
    "C128": 128,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
"""Bits of one element, by the names that safetensors gives to number formats."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of one weight file."""

    format: str
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)


def unreadable(path: Path, what: str, hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem("unreadable_model", f"{path.name} cannot be read: {what}", hint=hint)])


def damaged(path: Path, what: str) -> GraphFlowError:
    return unreadable(path, what, "download or copy the file again")


def cut_short(path: Path, size: int, end: int) -> GraphFlowError:
    return unreadable(path, f"it ends after {size:,} of {end:,} bytes", "it was not downloaded to its end")
