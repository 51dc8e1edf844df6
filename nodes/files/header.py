"""The content of a model file or folder, without its weights: names, shapes and number formats of its tensors, and its
notes.

Imports no torch. A header costs a few milliseconds, whatever the size of the file.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from ..model.header import Header, TensorInfo
from .diffusers_folder import read_config, read_folder, state_of_folder
from .tensor_info import unreadable
from .weight_file import read_weight_file

__all__ = ["Header", "TensorInfo", "read_config", "read_header", "unreadable"]


def read_header(path: Path) -> Header:
    """The header of a file or diffusers folder. Raises GraphFlowError with one Problem: what it is instead, or what is
    wrong.

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
