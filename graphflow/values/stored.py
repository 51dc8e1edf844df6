"""The stored form of a value: canonical JSON, or a safetensors file where bytes of leaves belong to it.

The JSON is a tree in which every object has a single key, its tag; dicts are lists of pairs. A leaf is
`{"x": [codec, form, number]}`: the name of the codec, its description of the leaf, and which of the file's tensors has
its bytes. The tensors are plain bytes (U8), and the tree lies in the file's metadata. Format of the file:
https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .codecs import Buffer, codec_name, codec_named, codec_of
from .kinds import Blocked, Handle, Items

__all__ = ["Encoded", "Unstorable", "decode", "encode"]

TREE = "graphflow.value"
_BIG = 1 << 63


class Unstorable(TypeError):
    """No codec knows a part of the value; it lives in memory only."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The stored form of a value. `data` is None for a handle, which has an identity but no stored form."""

    content: bytes
    data: bytes | None


def encode(value: Any) -> Encoded:
    """The stored form and its digest, equal for equal values in every process. Raises Unstorable."""
    writer = _Writer()
    try:
        tree = _to_text(writer.tree(value))
        data = _joined(tree, writer.leaves) if writer.leaves else tree.encode()
    except RecursionError:
        raise Unstorable("the value is nested too deeply to be stored") from None
    except Unstorable:
        raise
    except Exception as error:  # a codec may meet a value that is unlike all others
        raise Unstorable(f"the value cannot be stored: {type(error).__name__}: {error}") from error
    content = blake2b(data, digest_size=32).digest()
    return Encoded(content, None if writer.has_handle else data)


def decode(data: bytes) -> Any:
    """The value of `encode(value).data`. Raises ValueError where it is not one, NoCodec."""
    if data[7:9] == b"\0{":  # eight bytes of length before a JSON header; no JSON text holds a zero byte
        tree, leaves = _parted(data)
        return _read(tree, leaves)
    return _read(json.loads(data), [])


_to_text = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _joined(tree: str, leaves: list[Buffer]) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {"__metadata__": {TREE: tree}}
    at = 0
    for number, leaf in enumerate(leaves):
        size = memoryview(leaf).nbytes
        header[str(number)] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *leaves])


def _parted(data: bytes) -> tuple[Any, list[memoryview]]:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    if TREE not in metadata:
        raise ValueError("the file does not hold a value")
    body = memoryview(data)[8 + length :]
    places = [header[str(number)]["data_offsets"] for number in range(len(header))]
    if any(end > len(body) for _, end in places):
        raise ValueError("the file ends before its data")
    return json.loads(metadata[TREE]), [body[start:end] for start, end in places]


class _Writer:
    """Makes the tree of a value, and collects the bytes of its leaves."""

    def __init__(self) -> None:
        self.leaves: list[Buffer] = []
        self.has_handle = False

    def tree(self, value: Any) -> Any:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int:
            return value if -_BIG < value < _BIG else {"i": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"f": repr(value)}
        if kind is list:
            return [self.tree(item) for item in value]
        if kind is tuple:
            return {"t": [self.tree(item) for item in value]}
        if kind is dict:
            return {"d": self.pairs(value)}
        if kind is bytes:
            return {"b": value.hex()}
        if kind is Items:
            return {"m": [self.tree(item) for item in value]}
        if kind is Blocked:
            return {"k": value.message}
        if kind in _WRITERS:
            tag, write = _WRITERS[kind]
            return {tag: write(self, value)}
        if isinstance(value, Handle):
            self.has_handle = True
            return {"h": [f"{kind.__module__}.{kind.__qualname__}", self.tree(value.identity())]}
        return {"x": self.leaf(value)}

    def leaf(self, value: Any) -> list[Any]:
        kind = type(value)
        codec = codec_of(value)
        saved = codec.save(value) if codec is not None else None
        if saved is None:
            raise Unstorable(f"a {kind.__module__}.{kind.__qualname__} cannot be stored")
        form, data = saved
        self.leaves.append(data)
        return [codec_name(kind), form, len(self.leaves) - 1]

    def pairs(self, value: dict[Any, Any]) -> list[Any]:
        return [[self.tree(key), self.tree(item)] for key, item in value.items()]

    def sorted(self, value: set[Any]) -> list[Any]:
        """The members in an order of their own: that of a set differs from process to process."""
        before = len(self.leaves)
        members = sorted([self.tree(item) for item in value], key=json.dumps)
        if len(self.leaves) > before:
            raise Unstorable("a set of tensors cannot be stored")
        return members


_WRITERS: dict[type, tuple[str, Callable[[_Writer, Any], Any]]] = {
    complex: ("c", lambda writer, value: [writer.tree(value.real), writer.tree(value.imag)]),
    set: ("s", _Writer.sorted),
    frozenset: ("z", _Writer.sorted),
    bytearray: ("y", lambda writer, value: value.hex()),
    range: ("r", lambda writer, value: [writer.tree(value.start), writer.tree(value.stop), writer.tree(value.step)]),
    OrderedDict: ("o", _Writer.pairs),
    type(Path()): ("p", lambda writer, value: str(value)),
}
"""Plain Python that is rare: its tag, and what is written."""


def _read(tree: Any, leaves: list[memoryview]) -> Any:
    if isinstance(tree, list):
        return [_read(item, leaves) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((tag, body),) = tree.items()
    match tag:
        case "i":
            return int(body, 16)
        case "f":
            return float(body)
        case "t":
            return tuple(_read(item, leaves) for item in body)
        case "d":
            return {_read(key, leaves): _read(item, leaves) for key, item in body}
        case "b":
            return bytes.fromhex(body)
        case "m":
            return Items(_read(item, leaves) for item in body)
        case "k":
            return Blocked(body)
        case "x":
            name, form, number = body
            return codec_named(name).load(form, leaves[number])
        case "c":
            return complex(_read(body[0], leaves), _read(body[1], leaves))
        case "s":
            return {_read(item, leaves) for item in body}
        case "z":
            return frozenset(_read(item, leaves) for item in body)
        case "y":
            return bytearray.fromhex(body)
        case "r":
            return range(*[_read(item, leaves) for item in body])
        case "o":
            return OrderedDict([(_read(key, leaves), _read(item, leaves)) for key, item in body])
        case "p":
            return Path(body)
    raise ValueError(f"unknown tag {tag!r}")
