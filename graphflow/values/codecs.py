"""Codecs: how the leaves of a package (tensors, arrays) are shared, measured and stored.

The package that a leaf's type lives in names its codec: an entry point of that name in the group `graphflow.codecs`.
A codec is imported only when such a leaf is met, so the engine itself imports neither torch nor numpy. A stored leaf
carries the name of its codec (see `stored`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

__all__ = ["Buffer", "Codec", "NoCodec", "codec_name", "codec_named", "codec_of"]

Buffer = bytes | bytearray | memoryview

BUILT_IN = {"numpy": "graphflow.values.numpy_codec"}
"""Codecs of packages that have no entry point for theirs; an installed entry point takes precedence."""


class Codec(Protocol):
    """A module with these functions is a codec."""

    def owns(self, value: Any) -> bool:
        """Whether `share` and `storage` know this value."""

    def share(self, value: Any) -> Any:
        """An equal value; writing into it leaves the original as it is."""

    def storage(self, value: Any) -> tuple[int, int]:
        """(identity of the memory that holds it, bytes): memory that several leaves share counts once."""

    def save(self, value: Any) -> tuple[Any, Buffer] | None:
        """(what describes it, as JSON; its bytes), equal for equal values; None where `load` could not give back an
        equal one."""

    def load(self, form: Any, data: memoryview) -> Any:
        """The value of which `save` made these; it can be written into. `data` must not be kept."""


class NoCodec(LookupError):
    """A stored value needs a codec that is not installed here."""


def codec_name(kind: type) -> str:
    """The name that a codec for this type has: the package that the type lives in."""
    return kind.__module__.partition(".")[0]


def codec_of(value: object) -> Codec | None:
    """The codec that owns a value, or None."""
    codec = _codec(codec_name(type(value)))
    return codec if codec is not None and codec.owns(value) else None


def codec_named(name: str) -> Codec:
    """Raises NoCodec."""
    codec = _codec(name)
    if codec is None:
        raise NoCodec(f"values of the package {name!r} are stored here, but no installed package reads them")
    return codec


@cache
def _codec(name: str) -> Codec | None:
    load = _known().get(name)
    return cast(Codec, load()) if load is not None else None


@cache
def _known() -> dict[str, Callable[[], Any]]:
    known: dict[str, Callable[[], Any]] = {name: partial(import_module, path) for name, path in BUILT_IN.items()}
    return known | {point.name: point.load for point in entry_points(group="graphflow.codecs")}
