"""The codec of numpy: arrays and scalars (see `codecs`). Imported only when such a value is met."""

from __future__ import annotations

from typing import Any

import numpy as np

from .codecs import Buffer

__all__ = ["load", "owns", "save", "share", "storage"]


def owns(value: Any) -> bool:
    """Arrays and scalars of numbers, times and texts; not of Python objects or records, and no subclasses."""
    return (type(value) is np.ndarray or isinstance(value, np.generic)) and _is_plain(value.dtype)


def share(value: Any) -> Any:
    return value.copy(order="K") if type(value) is np.ndarray else value


def storage(value: Any) -> tuple[int, int]:
    if type(value) is not np.ndarray:
        return id(value), value.nbytes
    whole = value
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return whole.__array_interface__["data"][0], whole.nbytes


def save(value: Any) -> tuple[Any, Buffer] | None:
    """An array is described by [dtype, shape, dimensions from the slowest to the fastest in memory], a scalar by
    [dtype]."""
    if type(value) is not np.ndarray:
        form, data = [value.dtype.str], value.tobytes()
        return (form, data) if load(form, memoryview(data)).tobytes() == data else None  # text loses zeros at its end
    order = list(range(value.ndim))
    if not value.flags.c_contiguous and 0 not in value.strides:
        order.sort(key=lambda axis: -abs(value.strides[axis]))
    return [value.dtype.str, list(value.shape), order], value.transpose(order).tobytes()


def load(form: Any, data: memoryview) -> Any:
    kind, *more = form
    if not more:
        return np.frombuffer(data, kind)[0] if len(data) else np.zeros((), kind)[()]
    shape, order = more
    found: Any = np.empty(shape, kind).transpose(order)
    if found.size and found.itemsize:
        found = np.frombuffer(bytearray(data), kind).reshape(found.shape)
    return found.transpose([order.index(axis) for axis in range(len(order))])


def _is_plain(kind: np.dtype[Any]) -> bool:
    return not kind.hasobject and kind.fields is None and kind.subdtype is None and np.dtype(kind.str) == kind
