"""The header of a model file or folder: names, shapes and number formats of its tensors, and its notes; no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphflow import GraphFlowError, Problem

__all__ = ["Header", "TensorInfo"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The entry of one tensor in a header: number format, shape, and the place of its bytes."""

    dtype: str
    """As safetensors names it (`F16`, `BF16`, `F8_E4M3`); of a GGUF file the name of its block format (`Q4_K`)."""
    shape: tuple[int, ...]
    nbytes: int
    """In the file."""
    file: str
    """The path of the file that holds it: of a sharded model or a folder, one of several."""
    offset: int
    """Of its first byte in that file."""
    stride: tuple[int, ...] | None = None
    """In elements; None: row by row without gaps. Only pickles have others."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Header:
    """One model file or folder. A value: nothing of it changes, and it holds no weights."""

    path: Path
    format: str
    """`safetensors`, `pickle`, `gguf` or `diffusers`."""
    tensors: Mapping[str, TensorInfo]
    """By their names in the file; of a diffusers folder `part/name`, or `name` where the folder is one part by
    itself."""
    metadata: Mapping[str, str]
    """The notes in the file, as texts."""
    size: int
    """Bytes, of a folder those of all weights."""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of a diffusers folder: part -> its config.json, and `model_index`; the part of a folder of one part is ``""``."""
    broken: Mapping[str, Problem] = field(default_factory=dict)
    """Of a diffusers folder: part -> why its weights cannot be read."""

    def under(self, prefix: str) -> dict[str, TensorInfo]:
        """The tensors whose names begin with a prefix, without it.

        Raises GraphFlowError where the prefix is a part of a folder (`unet/`) whose weights cannot be read.
        """
        problem = self.broken.get(prefix.partition("/")[0] if "/" in prefix else prefix)
        if problem is not None:
            raise GraphFlowError([problem])
        length = len(prefix)
        return {name[length:]: info for name, info in self.tensors.items() if name.startswith(prefix)}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; () where the file has none of that name."""
        info = self.tensors.get(name)
        return info.shape if info is not None else ()
