"""Handing values out so that nobody can change the original: new containers, leaves shared by their codec."""

from __future__ import annotations

from typing import Any

from . import objects
from .codecs import codec_of
from .kinds import ATOMS, Blocked, Handle, Items

__all__ = ["Uncopyable", "copied", "is_leaf", "share"]


class Uncopyable(TypeError):
    """A part of the value can only be handed out as it is, so a node could change it: it lives as long as its run."""


def share(value: Any) -> Any:
    """The same value for another owner: containers are new, tensors are copied when one side writes, any other object
    is copied now. What cannot be copied is handed out as it is."""
    if type(value) in ATOMS:  # most values are, and a run asks for each of its inputs
        return value
    try:
        return copied(value)
    except Uncopyable:
        return value


def copied(value: Any) -> Any:
    """As `share`; raises Uncopyable where a part of the value can only be handed out as it is."""
    if type(value) in ATOMS:
        return value
    try:
        return _copied(value)
    except RecursionError:
        raise Uncopyable("the value is nested too deeply") from None


def is_leaf(value: object) -> bool:
    """Whether a value is handled as a whole: a handle, or what a codec owns."""
    return isinstance(value, Handle) or codec_of(value) is not None


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
    codec = codec_of(value)
    if codec is not None:
        return codec.share(value)
    try:
        return objects.copied(value, is_leaf, _copied)
    except Exception as error:  # whatever the object's own methods raise
        raise Uncopyable(f"a {kind.__module__}.{kind.__qualname__} cannot be copied: {error}") from error
