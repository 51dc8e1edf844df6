"""Names, shapes and places of the tensors in a file that `torch.save` wrote. No tensor is built and no code runs.

Two layouts: a zip archive (since PyTorch 1.6) of `NAME/data.pkl` and one entry for each storage; and the older one,
five pickles in a row and then the storages. Both pickles are read by an unpickler whose every name is one of the
stand-ins below. It is Python's own written in Python: the one in C sets memory aside for lengths that a damaged file
states.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from graphflow import GraphFlowError, Problem

from .tensor_info import BITS, MAX_HEADER, Contents, TensorInfo, cut_short, damaged, unreadable

__all__ = ["LEGACY_MAGIC", "read_legacy_pickle", "read_zip_pickle"]

LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""The first bytes of a file of the older layout."""
WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model", "module")
"""Names under which trainers put the weights, beside their own notes."""
MOST = 1_000_000
"""Tensors of one file, and values of one pickle."""

_STORAGES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "UntypedStorage": "U8",
}
_DTYPES = {
    "float32": "F32",
    "float": "F32",
    "float16": "F16",
    "half": "F16",
    "bfloat16": "BF16",
    "float64": "F64",
    "double": "F64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "complex64": "C64",
    "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
}


@dataclass(frozen=True, slots=True)
class _Format:
    """Stands for a storage class, or for a dtype."""

    dtype: str


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str
    bytes: int
    begin: int = 0


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    dtype: str
    first: int
    """Element of the storage that it begins with."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Refused(Exception):
    """The pickle names something that is not weights."""


class _Damaged(Exception):
    pass


class _Stopped(Exception):
    """The pickle has more values than a model has."""


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(value) is int and 0 <= value < 1 << 48 for value in values):
        raise _Damaged("a tensor has an impossible shape")
    return tuple(values)


def _tensor(storage: Any, first: Any, shape: Any, stride: Any, dtype: str | None = None) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise _Damaged("a tensor has no storage")
    dtype = dtype or storage.dtype
    shape, stride, (first,) = _integers(shape), _integers(stride), _integers([first])
    if len(shape) != len(stride):
        raise _Damaged("a tensor has an impossible shape")
    last = first + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if math.prod(shape) and (last + 1) * BITS[dtype] // 8 > storage.bytes:
        raise _Damaged("a tensor is larger than what holds it")
    return _Tensor(storage, dtype, first, shape, stride)


def _rebuild_v2(storage: Any, first: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    return _tensor(storage, first, shape, stride)


def _rebuild_v3(storage: Any, first: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any) -> Any:
    if not isinstance(dtype, _Format):
        raise _Damaged("a tensor has an unknown number format")
    return _tensor(storage, first, shape, stride, dtype.dtype)


def _same(value: Any, *_: Any) -> Any:
    return value


def _size(values: Any = ()) -> tuple[int, ...]:
    return _integers(values)


_NAMES: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _size,
    ("torch", "device"): _same,
    ("torch._utils", "_rebuild_tensor"): _rebuild_v2,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3,
    ("torch._utils", "_rebuild_parameter"): _same,
    ("torch._tensor", "_rebuild_from_type_v2"): None,  # subclasses of tensors: code of others
    **{("torch", name): _Format(dtype) for name, dtype in (_STORAGES | _DTYPES).items()},
    ("torch.storage", "UntypedStorage"): _Format("U8"),
}


class _Unpickler(pickle._Unpickler):
    """`storages`: their lengths by key, in bytes; None where the pickle itself states them (the older layout)."""

    def __init__(self, file: io.BytesIO | _Bounded, storages: Mapping[str, tuple[int, int]] | None) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._storages = storages
        self.seen: dict[str, int] = {}
        self._count = 0

    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module, name))
        if found is None:
            raise _Refused(f"{module}.{name}"[:80])
        return found

    def get_extension(self, code: int) -> None:
        raise _Refused(f"extension {code}")

    def persistent_load(self, pid: Any) -> _Storage:
        self._count += 1
        if self._count > MOST:
            raise _Stopped
        match pid:
            case ("storage", _Format(dtype), str(key), _, int(numel), *more) if 0 <= numel < 1 << 48:
                pass
            case _:
                raise _Damaged("a storage is not described")
        if more and more[0] is not None:
            raise _Refused("a view of a storage")
        stated = numel * BITS[dtype] // 8
        if self._storages is None:
            self.seen[key] = stated
            return _Storage(dtype, key, stated)
        if key not in self._storages:
            raise _Damaged(f"the storage {key[:20]!r} is missing")
        begin, length = self._storages[key]
        if stated > length:
            raise _Damaged(f"the storage {key[:20]!r} is too short")
        return _Storage(dtype, key, length, begin)


_SMALL = 1 << 16


class _Bounded:
    """A file of which nobody can read more than a header's worth at once, so that a length in it sets nothing aside."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell = file.seek, file.tell

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if 0 <= count <= _SMALL:
            return self._file.read(count)
        left = max(self._size - self._file.tell(), 0)
        count = left if count < 0 else min(count, left)
        if count > MAX_HEADER:
            raise _Stopped
        return self._file.read(count)

    def readline(self) -> bytes:
        found = self._file.readline(MAX_HEADER)
        if not found.endswith(b"\n"):  # half a name is not a name
            raise EOFError
        return found


def read_zip_pickle(path: Path, file: BinaryIO, size: int) -> Contents:
    """Raises GraphFlowError; code `unsafe_model` where it holds more than weights."""
    try:
        with zipfile.ZipFile(_Bounded(file, size)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            names = [name for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
            if not names:
                raise unreadable(path, "it is a zip archive, and not of PyTorch", "unpack it, and use what is in it")
            if entries[names[0]].file_size > MAX_HEADER:
                raise damaged(path, "its list of tensors is too long")
            root = names[0].removesuffix("data.pkl")
            order = entries.get(f"{root}byteorder")
            if order is not None and order.file_size < 16 and archive.read(order).strip() != b"little":
                raise unreadable(path, "its numbers are big-endian")
            text = archive.read(names[0])
        storages = {
            name.removeprefix(f"{root}data/"): (_begin_of(path, file, entry, size), entry.file_size)
            for name, entry in entries.items()
            if name.startswith(f"{root}data/")
        }
    except (
        zipfile.BadZipFile,
        _Stopped,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        struct.error,
        zlib.error,
    ):
        raise damaged(path, "it is a damaged zip archive, or was not downloaded to its end") from None
    with _problems(path):
        found = _Unpickler(io.BytesIO(text), storages).load()
    return _contents(path, found, {key: begin for key, (begin, _) in storages.items()})


def _begin_of(path: Path, file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> int:
    """Of the entry's bytes: its local header has a name and an extra field of its own length."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise unreadable(path, "its weights are compressed", "save it again with torch.save")
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise damaged(path, "it is a damaged zip archive")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    begin: int = entry.header_offset + 30 + name_length + extra_length
    if begin + entry.file_size > size:
        raise cut_short(path, size, begin + entry.file_size)
    return begin


def read_legacy_pickle(path: Path, file: BinaryIO, size: int) -> Contents:
    """The older layout: magic, version, system, the object, the keys of its storages; then each storage, with its
    length."""
    file.seek(0)
    bounded = _Bounded(file, size)
    with _problems(path):
        for _ in range(3):
            _Unpickler(bounded, {}).load()
        unpickler = _Unpickler(bounded, None)
        found = unpickler.load()
        keys = _Unpickler(bounded, {}).load()
        if not isinstance(keys, list) or not all(isinstance(key, str) and key in unpickler.seen for key in keys):
            raise _Damaged("its storages are not listed")
    begins, place = {}, file.tell()
    for key in keys:
        begins[key] = place + 8
        place += 8 + unpickler.seen[key]
    if place > size:
        raise cut_short(path, size, place)
    if missing := unpickler.seen.keys() - begins:
        raise damaged(path, f"{len(missing)} storages are missing")
    return _contents(path, found, begins)


class _problems:
    """Whatever a damaged pickle makes the unpickler raise is one Problem."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, _Refused):
            raise GraphFlowError(
                [
                    Problem(
                        "unsafe_model",
                        f"{self._path.name} is refused: it holds more than weights ({error})",
                        hint="get it as .safetensors, which can hold nothing but weights",
                    )
                ]
            ) from None
        if isinstance(error, _Damaged):
            raise damaged(self._path, str(error)) from None
        if isinstance(error, Exception) and not isinstance(error, GraphFlowError):
            raise damaged(self._path, "its list of tensors is damaged") from None


def _contents(path: Path, found: Any, begins: Mapping[str, int]) -> Contents:
    if not isinstance(found, dict):
        raise unreadable(path, "it holds no weights by name")
    notes = {key: value for key, value in found.items() if isinstance(value, str | int | float)}
    for wrapper in WRAPPERS:
        inner = found.get(wrapper)
        if isinstance(inner, dict) and any(isinstance(value, _Tensor) for value in inner.values()):
            found = inner
            break
    tensors = {name: _info(path, tensor, begins) for name, tensor in _named(found)}
    return Contents("pickle", tensors, {str(key)[:200]: str(value)[:1000] for key, value in notes.items()})


def _named(values: Mapping[Any, Any]) -> Iterator[tuple[str, _Tensor]]:
    """Tensors in mappings and lists in each other, by their names with dots between."""
    waiting, entered = [("", values)], {id(values)}
    while waiting:
        before, inside = waiting.pop()
        for key, value in inside.items():
            name = f"{before}{key}"
            if isinstance(value, _Tensor):
                yield name, value
            elif isinstance(value, dict | list | tuple) and id(value) not in entered:
                entered.add(id(value))
                waiting.append((f"{name}.", value if isinstance(value, dict) else dict(enumerate(value))))


def _info(path: Path, tensor: _Tensor, begins: Mapping[str, int]) -> TensorInfo:
    width = BITS[tensor.dtype] // 8
    offset = begins[tensor.storage.key] + tensor.first * width
    contiguous, step = True, 1
    for side, distance in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        contiguous, step = contiguous and (distance == step or side == 1), step * side
    stride = None if contiguous or not step else tensor.stride
    return TensorInfo(tensor.dtype, tensor.shape, math.prod(tensor.shape) * width, str(path), offset, stride)
