"""The stored form of numpy's arrays and scalars. Imported only once such a value is met."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from . import ARRAYS

__all__ = ["array", "flat", "load", "save", "scalar", "tree_of_scalar"]


def tree_of_scalar(value: Any) -> list[str] | None:
    """[dtype, bytes in hexadecimal], or None where that would not be all of it."""
    if not isinstance(value, np.generic) or not _is_plain(value.dtype):
        return None
    tree = [value.dtype.str, value.tobytes().hex()]
    return tree if scalar(*tree).tobytes() == value.tobytes() else None  # text loses zeros at its end


def scalar(kind: str, data: str) -> Any:
    return np.frombuffer(bytes.fromhex(data), kind)[0] if data else np.zeros((), kind)[()]


def flat(value: Any) -> tuple[list[Any], Any] | None:
    """([dtype, shape, dimensions from the slowest to the fastest in memory], its bytes as a uint8 array), or None where
    that would not be all of it: Python objects, records, subclasses."""
    if type(value) is not np.ndarray or not _is_plain(value.dtype):
        return None
    order = list(range(value.ndim))
    if not value.flags.c_contiguous and 0 not in value.strides:
        order.sort(key=lambda axis: -abs(value.strides[axis]))
    data = np.frombuffer(value.transpose(order).tobytes(), np.uint8).copy()
    return [value.dtype.str, list(value.shape), order], data


def array(kind: str, shape: list[int], order: list[int], data: Any) -> Any:
    """The array of which `flat` made this; it can be written into."""
    found: Any = np.empty(shape, kind).transpose(order)
    if found.size and found.itemsize:
        found = np.frombuffer(bytearray(np.asarray(data)), kind).reshape(found.shape)
    return found.transpose([order.index(axis) for axis in range(len(order))])


def save(leaves: dict[str, Any], note: str) -> bytes:
    return save_arrays(leaves, {ARRAYS: note})


def load(data: bytes) -> tuple[dict[str, Any], str]:
    (length,) = struct.unpack_from("<Q", data)
    return load_arrays(data), json.loads(data[8 : 8 + length])["__metadata__"][ARRAYS]


def _is_plain(kind: np.dtype[Any]) -> bool:
    return not kind.hasobject and kind.fields is None and kind.subdtype is None and np.dtype(kind.str) == kind
