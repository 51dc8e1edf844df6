"""Wire values: handing them out so that nobody can change a cached one, their size, and their stored form.

A value is a tree of plain Python (None, bool, int, float, complex, str, bytes, list, tuple, dict, set, Path and the like),
of *leaves* that a codec knows (tensors), of numpy's arrays and scalars, and of *handles*. Who owns a leaf type registers its
codec under the entry point group `graphflow.codecs`; the name of the entry point is the package that the type lives in, so a
codec is imported only once such a value is met and the engine itself stays free of torch.
"""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from . import objects

__all__ = [
    "Blocked", "Codec", "Encoded", "Handle", "Items", "Uncopyable", "Unstorable", "copied", "decode", "encode", "measure",
    "share", "size_of",
]  # fmt: skip

ATOMS = frozenset({type(None), bool, int, float, str, bytes})
ARRAYS = "graphflow.arrays"
"""In the metadata of a safetensors file that holds numpy's arrays and no tensors."""
_BIG = 1 << 63


class Items(tuple[Any, ...]):
    """Several values on one link: what follows runs once for each. Never holds exactly one: that is the value itself."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """A value that stops what needs it. With a message, that is a failure which says so; without one, it is meant."""

    message: str | None = None


class Handle:
    """A value that names something (a model, and what is changed about it) without holding it.

    Never stored: it is made anew by running its node again, which costs nothing. Must be immutable: it is handed out
    as it is, never copied.
    """

    __slots__ = ()

    def identity(self) -> Any:
        """Plain Python that is equal for handles on the same thing, on every machine."""
        raise NotImplementedError


class Codec(Protocol):
    """How the leaves of one package are shared, counted and stored. A module with these functions will do."""

    def owns(self, value: Any) -> bool:
        """Whether `share` and `storage` know this value."""

    def stores(self, value: Any) -> bool:
        """Whether a value that it owns can be saved, so that what is loaded is the same in everything."""

    def share(self, value: Any) -> Any:
        """Something equal; writing into it leaves the original as it is."""

    def storage(self, value: Any) -> tuple[int, int]:
        """(identity of the memory that holds it, bytes): memory that several leaves share counts once."""

    def save(self, leaves: dict[str, Any], note: str) -> bytes:
        """A safetensors file with the note in its metadata; equal leaves and notes give equal bytes. Flat numpy arrays of
        bytes may be among the leaves."""

    def load(self, data: bytes) -> tuple[dict[str, Any], str]:
        """(leaves, note) of such a file."""


class Uncopyable(TypeError):
    """A part of the value can only be handed out as it is, so a node could change it: it lives as long as its run."""


class Unstorable(TypeError):
    """No codec knows a part of the value; it lives in memory only."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The stored form of a value. `data` is None for a handle, which has an identity but no stored form."""

    content: bytes
    data: bytes | None


@cache
def _codecs() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group="graphflow.codecs")}


@cache
def _codec(package: str) -> Codec | None:
    point = _codecs().get(package)
    return cast(Codec, point.load()) if point is not None else None


def _arrays() -> ModuleType:
    """What knows numpy's values, without numpy where none is met."""
    from . import arrays

    return arrays


def _codec_of(kind: type) -> Codec | None:
    return _codec(kind.__module__.partition(".")[0])


def share(value: Any) -> Any:
    """The same value for another owner: containers are new, tensors are copied when one side writes, any other object
    is copied now. What cannot be copied is handed out as it is."""
    try:
        return copied(value)
    except Uncopyable:
        return value


def copied(value: Any) -> Any:
    """As `share`; raises Uncopyable where a part of the value can only be handed out as it is."""
    try:
        return _copied(value)
    except RecursionError:
        raise Uncopyable("the value is nested too deeply") from None


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is list:
        return [_copied(item) for item in value]
    if kind is tuple:
        return tuple([_copied(item) for item in value])
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is Items:
        return Items([_copied(item) for item in value])
    if kind is Blocked or isinstance(value, Handle):
        return value
    codec = _codec_of(kind)
    if codec is not None and codec.owns(value):
        return codec.share(value)
    try:
        return objects.copied(value, _is_leaf, _copied)
    except Exception as error:  # whatever the object's own methods raise
        raise Uncopyable(f"a {kind.__module__}.{kind.__qualname__} cannot be copied: {error}") from error


def _is_leaf(value: object) -> bool:
    if isinstance(value, Handle):
        return True
    codec = _codec_of(type(value))
    return codec is not None and codec.owns(value)


def measure(value: Any) -> tuple[int, dict[int, int]]:
    """What holding a value takes: (bytes of its structure, identity -> bytes of each memory that its tensors lie in).

    Memory that several values share has one identity, so that it can be counted once.
    """
    memories: dict[int, int] = {}
    return _measure(value, memories), memories


def size_of(value: Any) -> int:
    """Bytes held by a value; memory that is in it twice counts once."""
    structure, memories = measure(value)
    return structure + sum(memories.values())


def _measure(value: Any, memories: dict[int, int]) -> int:
    kind = type(value)
    if kind in ATOMS:
        return sys.getsizeof(value)
    if kind in (list, tuple, Items):
        return 64 + sum([_measure(item, memories) for item in value])
    if kind is dict:
        return 64 + sum([_measure(key, memories) + _measure(item, memories) for key, item in value.items()])
    if isinstance(value, Handle):
        return 64
    codec = _codec_of(kind)
    if codec is not None and codec.owns(value):
        memory, held = codec.storage(value)
        memories[memory] = held
        return 64
    size = 0
    for part in objects.parts(value, _is_leaf):
        size += _measure(part, memories) if _is_leaf(part) else objects.shallow_bytes(part)
    return size


def encode(value: Any) -> Encoded:
    """The stored form and its digest: canonical JSON, or safetensors with that JSON in its metadata.

    Raises Unstorable.
    """
    writer = _Writer()
    try:
        tree = json.dumps(writer.tree(value), separators=(",", ":"), allow_nan=False).encode()
        if writer.leaves:
            codec = writer.codec or cast(Codec, _arrays())
            tree = codec.save(writer.leaves, tree.decode())
    except RecursionError:
        raise Unstorable("the value is nested too deeply to be stored") from None
    except Unstorable:
        raise
    except Exception as error:  # whatever a codec meets in a value that is like no other
        raise Unstorable(f"the value cannot be stored: {type(error).__name__}: {error}") from error
    content = blake2b(tree, digest_size=32).digest()
    return Encoded(content, None if writer.has_handle else tree)


def decode(data: bytes) -> Any:
    """The value of `encode(value).data`; raises ValueError where it is none."""
    if data[7:9] == b"\0{":  # safetensors: eight bytes of length, then a JSON header; no JSON text holds a zero byte
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        codec = cast(Codec, _arrays()) if ARRAYS in header["__metadata__"] else _codec("torch")
        if codec is None:
            raise ValueError("tensors are stored here, but no installed package reads them")
        leaves, note = codec.load(data)
        return _read(json.loads(note), leaves)
    return _read(json.loads(data), {})


class _Writer:
    """A value as plain JSON; every single-key object in it is a tag, dicts are lists of pairs."""

    def __init__(self) -> None:
        self.leaves: dict[str, Any] = {}
        self.codec: Codec | None = None
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
        if kind.__module__ == "numpy":
            return self._numpy(value)
        if isinstance(value, Handle):
            self.has_handle = True
            return {"h": [f"{kind.__module__}.{kind.__qualname__}", self.tree(value.identity())]}
        codec = _codec_of(kind)
        if codec is None or not (codec.owns(value) and codec.stores(value)) or self.codec not in (None, codec):
            raise Unstorable(f"a {kind.__module__}.{kind.__qualname__} cannot be stored")
        self.codec = codec
        return {"x": self._leaf(value)}

    def _leaf(self, value: Any) -> str:
        name = str(len(self.leaves))
        self.leaves[name] = value
        return name

    def _numpy(self, value: Any) -> Any:
        scalar = _arrays().tree_of_scalar(value)
        if scalar is not None:
            return {"n": scalar}
        found = _arrays().flat(value)
        if found is None:
            raise Unstorable(f"a {type(value).__module__}.{type(value).__qualname__} of this kind cannot be stored")
        return {"a": [*found[0], self._leaf(found[1])]}

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


def _read(tree: Any, leaves: dict[str, Any]) -> Any:
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
            return leaves[body]
        case "a":
            *form, name = body
            return _arrays().array(*form, leaves[name])
        case "n":
            return _arrays().scalar(*body)
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
