"""`model_options` of a MODEL: the dict of functions and options that packs read, write and pass on.

{"transformer_options": {"patches": {"attn1_patch": [f]}, "patches_replace": {"attn1": {("middle", 0): f}}},
 "sampler_cfg_function": f, "sampler_post_cfg_function": [f], "model_function_wrapper": f, ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["copied", "equal", "functions_in", "with_appended", "with_replacement"]


def copied(value: Any) -> Any:
    """Dicts and lists anew, everything else as it is."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if type(value) is list else value


def equal(one: Any, other: Any) -> bool:
    """Whether two copies hold the same things: functions and tensors themselves, numbers and texts by value."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) in (int, float, str, bool, bytes) and bool(one == other)


def functions_in(value: Any) -> list[Any]:
    """The functions and other objects in it, in order; not numbers, texts and the like."""
    if isinstance(value, Mapping):
        return [found for item in value.values() for found in functions_in(item)]
    if isinstance(value, (list, tuple)):
        return [found for item in value for found in functions_in(item)]
    return [value] if callable(value) else []


def with_appended(options: Mapping[str, Any], name: str, function: Any) -> dict[str, Any]:
    """`transformer_options` with one more function under `patches`."""
    patches = options.get("patches", {})
    return {**options, "patches": {**patches, name: [*patches.get(name, ()), function]}}


def with_replacement(options: Mapping[str, Any], name: str, place: tuple[Any, ...], function: Any) -> dict[str, Any]:
    """`transformer_options` with the function that stands for a layer: `name` is attn1, attn2 or dit."""
    replaced = options.get("patches_replace", {})
    return {**options, "patches_replace": {**replaced, name: {**replaced.get(name, {}), place: function}}}
