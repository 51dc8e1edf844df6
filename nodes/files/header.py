"""What a model file or folder holds, without its weights: names, shapes and number formats of its tensors, and its notes.

Imports no torch. A header costs a few milliseconds, whatever the size of the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from graphflow import GraphFlowError, Problem

from .diffusers_folder import read_config, read_folder, state_of_folder
from .tensor_info import TensorInfo, unreadable
from .weight_file import read_weight_file

__all__ = ["Header", "TensorInfo", "read_config", "read_header", "unreadable"]


@dataclass(frozen=True, eq=False)
class Header:
    """One model file or folder. A value: nothing of it changes, and it holds no weights."""

    path: Path
    format: str
    """`safetensors`, `pickle`, `gguf` or `diffusers`."""
    tensors: Mapping[str, TensorInfo]
    """By their names in the file; of a diffusers folder `part/name`, or `name` where the folder is one part by itself."""
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


def read_header(path: Path) -> Header:
    """The header of a file or diffusers folder. Raises GraphFlowError with one Problem: what it is instead, or what is wrong.

    The same file, unchanged, gives the same value without being read again.
    """
    try:
        if not path.is_dir():
            state = os.stat(path)
            return _of_file(str(path), state.st_size, state.st_mtime_ns)
        return _of_folder(str(path), state_of_folder(path))
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None


@lru_cache(maxsize=64)
def _of_file(name: str, size: int, mtime: int) -> Header:
    path = Path(name)
    found = read_weight_file(path)
    return Header(
        path=path,
        format=found.format,
        tensors=MappingProxyType(dict(found.tensors)),
        metadata=MappingProxyType(dict(found.metadata)),
        size=size,
    )


@lru_cache(maxsize=64)
def _of_folder(name: str, state: object) -> Header:
    path = Path(name)
    found = read_folder(path)
    return Header(
        path=path,
        format="diffusers",
        tensors=MappingProxyType(dict(found.tensors)),
        metadata=MappingProxyType(dict(found.metadata)),
        size=sum(info.nbytes for info in found.tensors.values()),
        configs=MappingProxyType(dict(found.configs)),
        broken=MappingProxyType(dict(found.broken)),
    )
